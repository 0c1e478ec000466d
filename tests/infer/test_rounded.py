from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from cutaway.infer.rounded import Rounded


def test_a_product_of_each_row_alone_is_that_of_all():
    """In float32 the order of summation shows; rounded it does not."""
    torch.manual_seed(0)
    x, w = torch.randn(64, 501), torch.randn(40, 501)
    with torch.inference_mode():
        assert not torch.equal(torch.cat([F.linear(row[None], w) for row in x]), F.linear(x, w))
        with Rounded():
            assert torch.equal(torch.cat([F.linear(row[None], w) for row in x]), F.linear(x, w))


@pytest.mark.parametrize("inference", [True, False])
def test_each_operation_is_that_of_float64_rounded_once(inference):
    torch.manual_seed(1)
    x, w, q = torch.randn(9, 33), torch.randn(33), torch.randn(1, 2, 5, 8)
    with torch.inference_mode(inference), Rounded():
        for made, wide in (
            (F.rms_norm(x, (33,), w), F.rms_norm(x.double(), (33,), w.double(), torch.finfo(torch.float32).eps)),
            (x.softmax(-1), x.double().softmax(-1)),
            (x.softmax(-1, dtype=torch.float32), x.double().softmax(-1)),
            (F.silu(x), F.silu(x.double())),
            (x @ w, x.double() @ w.double()),
            (x.logsumexp(-1), x.double().logsumexp(-1)),
            (torch.einsum("ab,b->a", x, w), x.double() @ w.double()),
            (F.scaled_dot_product_attention(q, q, q), F.scaled_dot_product_attention(*[q.double()] * 3)),
        ):
            assert made.dtype == torch.float32
            # Some are a few operations, each rounded: a few units in the last place.
            assert torch.allclose(made.double(), wide, rtol=3e-7, atol=1e-7)


def test_what_only_moves_or_is_wide_stays_what_it_is():
    x = torch.arange(6.0).view(2, 3)
    with torch.inference_mode(), Rounded():
        row = x[1]
        row.add_(1)  # a view stays a view
        assert x.tolist() == [[0.0, 1.0, 2.0], [4.0, 5.0, 6.0]]
        assert x.double().sum(-1).dtype == (x.double() + x).dtype == torch.float64
        assert x.topk(1).values.tolist() == [[2.0], [6.0]] and x.argmax(-1).tolist() == [2, 2]
        assert (x > 3).tolist() == [[False] * 3, [True] * 3]
        assert x.bfloat16().sum().dtype == torch.bfloat16
