"""GPTQ is the algorithm taken one column at a time; it beats rounding on the inputs it was made for, and on others."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.absmax import pack, round_absmax
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.scheme import Absmax
from cutaway.ops.calibrated import gptq as module
from cutaway.ops.calibrated.gptq import gptq, output_error

SCHEMES = [
    Absmax(bits=4, share=32),
    Absmax(bits=4, share="row"),
    Absmax(bits=4, share=16, symmetric=False),
    Absmax(bits=8, share="tensor"),
]
EACH = pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: scheme.name)


def case(columns: int = 64, rows: int = 24, inputs: int = 512, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Weights, inputs that go together and differ in size as a model's do, and others of the same kind."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(columns, columns, generator=generator) * torch.logspace(0.5, -1, columns)[:, None]
    x, fresh = (torch.randn(inputs, columns, generator=generator) @ mixing for _ in range(2))
    return torch.randn(rows, columns, generator=generator), x, fresh


def by_the_letter(w_RC: Tensor, hessian: Tensor, scheme: Absmax) -> Tensor:
    """Without Cholesky: after each column its error goes to the rest by H^-1 of the columns that are left."""
    w, h = w_RC.double().clone(), hessian.double().clone()
    h.diagonal().add_(0.01 * float(h.diagonal().mean()))
    columns, group = w.shape[1], scheme.format(w.shape[1]).weights
    out = torch.empty_like(w)
    whole = round_absmax(w_RC, scheme)
    for c in range(columns):
        if c % group == 0:
            if isinstance(scheme.share, str):
                scale, zero = whole.scale_RG1[:, 0], whole.zero_RG1[:, 0]
            else:
                now = round_absmax(w[:, c : c + group].float(), scheme)
                scale, zero = now.scale_RG1[:, 0], now.zero_RG1[:, 0]
        least = -scheme.levels if scheme.symmetric else 0
        q = ((w[:, c : c + 1].float() / scale).round() + zero).clamp(least, scheme.levels)
        out[:, c] = (scale * (q - zero))[:, 0].double()
        inverse = torch.linalg.inv(h[c:, c:])
        w[:, c:] -= (w[:, c] - out[:, c])[:, None] / inverse[0, 0] * inverse[0]
    return out


@EACH
@pytest.mark.parametrize("run", [128, 24, 7])
def test_it_is_the_algorithm_by_the_letter(scheme, run, monkeypatch):
    monkeypatch.setattr(module, "RUN", run)
    w, x, _ = case(columns=32, rows=6)
    expected = by_the_letter(w, x.T @ x, scheme)
    # float64 all the way: two ways to one inverse differ by far less than a step, but for a weight at a border.
    found = gptq(w, x.T @ x, scheme).numbers().double()
    assert float((found != expected).double().mean()) < 0.02


@EACH
def test_it_beats_rounding_to_the_nearest(scheme):
    w, x, fresh = case()
    nearest, better = round_absmax(w, scheme).numbers(), gptq(w, x.T @ x, scheme).numbers()
    assert output_error(x, w, better) < 0.6 * output_error(x, w, nearest)
    assert output_error(fresh, w, better) < 0.7 * output_error(fresh, w, nearest), "on inputs that it has not seen"
    assert (better - w).square().mean() > (nearest - w).square().mean(), "though its weights are further away"


def test_inputs_that_have_nothing_to_do_with_each_other_leave_rounding_as_it_is():
    w, scheme = case()[0], Absmax(bits=4, share=32)
    found = gptq(w, torch.eye(64) * 3.0, scheme)
    assert torch.equal(found.numbers(), round_absmax(w, scheme).numbers())
    assert torch.equal(gptq(w, torch.zeros(64, 64), scheme).numbers(), found.numbers())


def test_its_levels_are_packed_as_any_are():
    w, x, _ = case()
    scheme = Absmax(bits=4, share=32)
    levels = gptq(w, x.T @ x, scheme)
    assert torch.equal(dequantise(pack(levels, scheme.format(64)), scheme.format(64)), levels.numbers())


def test_what_does_not_fit_is_refused():
    w, x, _ = case()
    with pytest.raises(BadInput, match="hessian_CC"):
        gptq(w, torch.eye(3), SCHEMES[0])
    with pytest.raises(BadInput, match="not finite"):
        gptq(w, (x.T @ x) * torch.nan, SCHEMES[0])
