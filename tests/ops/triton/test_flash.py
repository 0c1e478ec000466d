from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch

pytest.importorskip("triton", reason="the extra triton is not installed")

from cutaway.base.errors import BadInput
from cutaway.lab.checks.attend import CASES, Case, check_attend, check_half, check_large_scores
from cutaway.lab.checks.memory import kept
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.ops.attend import attend_readable
from cutaway.ops.forms import FAST
from cutaway.ops.tiled import Tiles
from cutaway.ops.triton.flash import attend_flash, attend_in
from cutaway.ops.visible import Visible

SINKS = (
    Case(see=Visible(queries=(9,), keys=(9,), window=2, sinks=3), heads=4, groups=2),
    Case(see=Visible(queries=(2, 7), keys=(8, 7), window=1, sinks=2)),
)
SMALL = Tiles(queries=16, keys=16)
RULES = [
    {},
    {"window": 20},
    {"window": 20, "sinks": 5},
    {"prefix": (33, 7, 20)},
    {"causal": False},
]
# In steps of the dtype. Both sides start from the same rounded numbers. Half precision rounds the weights, the slopes
# of the scores and what comes out, each by at most half a step; in float32 only the order of sums of up to 131 terms
# differs. The error is that of the whole tensor, by its norm, so that a gradient of zero has no say.
STEPS = {torch.float32: 10, torch.bfloat16: 2, torch.float16: 2}


def on(device, attend):
    """`attend` with its tensors carried to the device and back."""

    def there(q, k, v, see, **told):
        if told.get("bias") is not None:
            bias = told["bias"]
            told["bias"] = lambda index: bias(index).to(device)
        return attend(q.to(device), k.to(device), v.to(device), see, **told).to(q.device)

    return there


def random(see, heads, groups, width, value_width, dtype):
    make = torch.Generator().manual_seed(sum(see.queries))
    shapes = ((sum(see.queries), heads, width), (sum(see.keys), groups, width), (sum(see.keys), groups, value_width))
    return [torch.randn(shape, generator=make, dtype=torch.float64).to(dtype) for shape in shapes]


def with_gradients(attend, given, see, **told):
    leaves = [tensor.detach().requires_grad_() for tensor in given]
    y_NHK = attend(*leaves, see, **told)
    return [y_NHK.detach(), *torch.autograd.grad((y_NHK.double().sin()).sum(), leaves)]


def check_dtype(attend, see, dtype, *, heads=4, groups=2, width=12, value_width=12, softcap=None):
    """Forward and gradient against the readable form in float64, from the same numbers."""
    given = random(see, heads, groups, width, value_width, dtype)
    told = {"scale": width**-0.5, "softcap": softcap}
    ours = with_gradients(attend, given, see, **told)
    exact = with_gradients(attend_readable, [tensor.double() for tensor in given], see, **told)
    for name, one, other in zip(("output", "dq", "dk", "dv"), ours, exact, strict=True):
        assert one.dtype == dtype, name
        error = float((one.double() - other).norm() / other.norm())
        bound = STEPS[dtype] * torch.finfo(dtype).eps
        assert error < bound, f"{name} in {dtype}: off by {error:.2g} of its size, more than {bound:.2g}"


def test_it_is_the_equation_forward_and_gradient(device):
    check_attend(on(device, attend_flash), CASES[::5] + SINKS[:1])
    check_large_scores(on(device, attend_flash))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(device, dtype):
    check_half(on(device, attend_flash), dtype)
    check_dtype(on(device, partial(attend_in, SMALL)), Visible(queries=(5, 18), keys=(23, 18)), dtype)


@pytest.mark.proof
def test_every_case_in_small_tiles_and_large(device):
    check_attend(on(device, partial(attend_in, SMALL)), CASES + SINKS)
    check_attend(on(device, partial(attend_in, Tiles(queries=32, keys=64))), CASES[1::4] + SINKS)


@pytest.mark.proof
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_odd_lengths_under_every_rule(device, rule, dtype):
    attend = on(device, partial(attend_in, Tiles(queries=32, keys=16)))
    see = Visible(queries=(37, 1, 53), keys=(37, 63, 71), **rule)
    check_dtype(attend, see, dtype, softcap=2.0 if "window" in rule else None)


@pytest.mark.proof
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize(("heads", "groups"), [(3, 3), (6, 2), (9, 3), (5, 1)])
def test_heads_that_share_keys(device, heads, groups, dtype):
    attend = on(device, partial(attend_in, Tiles(queries=16, keys=32)))
    see = Visible(queries=(41, 19), keys=(41, 35))
    check_dtype(attend, see, dtype, heads=heads, groups=groups, width=20, value_width=7)


@pytest.mark.proof
def test_the_tiles_that_run_are_the_equation_on_a_longer_sequence(device):
    check_dtype(on(device, attend_flash), Visible(queries=(131,), keys=(131,)), torch.float32, heads=2, width=64)


def test_a_model_runs_on_it_all_at_once_and_token_by_token(device):
    """Float64: a decoder's logits and gradients, ragged, and the same from a cache, are those of sdpa."""
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=6, rope=Rope(width=6), window=5)
    block = Block(mixer=mixer, feed=Gated(hidden=16), before=RMSNorm())
    spec = Decoder(vocab=11, dim=24, blocks=(block,) * 2, length=32, norm=RMSNorm())
    module = spec.build().double().to(device)
    ids_N = torch.arange(12, device=device) % 11
    forms, results = replace(FAST, attend=attend_flash), []
    for one in (FAST, forms):
        logits = module(ids_N, Context.of((7, 5), forms=one, device=device))[0]
        slopes = torch.autograd.grad(logits.sin().sum(), list(module.parameters()))
        results.append([logits.detach(), *slopes])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-11)
    cache = ContiguousCache(spec.streams(), sequences=1, dtype=torch.float64, device=device)
    with torch.inference_mode():
        rows = []
        for chunk in ids_N[:7].split([4, 1, 1, 1]):
            rows.append(module(chunk, Context.of((len(chunk),), cache=cache, forms=forms, device=device))[0])
    torch.testing.assert_close(torch.cat(rows).clone(), results[0][0][:7], rtol=1e-9, atol=1e-11)


def test_a_bias_takes_its_gradient(device):
    make = torch.Generator().manual_seed(0)
    given = [torch.randn(6, 2, 4, generator=make, dtype=torch.float64) for _ in range(3)]
    biases = [torch.randn(2, 3, 3, generator=make, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    see = Visible(queries=(3, 3), keys=(3, 3))
    slopes = []
    for attend in (on(device, attend_flash), attend_readable):
        y = attend(*given, see, scale=0.5, softcap=2.0, bias=lambda index: biases[index])
        slopes.append(torch.autograd.grad(y.sin().sum(), biases))
    for ours, theirs in zip(*slopes, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


def test_what_is_kept_grows_as_the_tokens_and_not_as_their_pairs(device):
    few, many = (kept(on(device, partial(attend_in, SMALL)), tokens) for tokens in (16, 64))
    assert many.saved == 4 * few.saved and many.largest <= 4 * few.largest


def test_nothing_in_nothing_out(device):
    for keys in (0, 2):
        see = Visible(queries=(0,), keys=(keys,))
        given = [torch.zeros(*shape, device=device, requires_grad=True) for shape in ((0, 2, 4), (keys, 1, 4))]
        y = attend_flash(*given, torch.zeros(keys, 1, 3, device=device), see, scale=1.0)
        assert y.shape == (0, 2, 3)
        assert [float(one.abs().sum()) for one in torch.autograd.grad(y.sum(), given)] == [0.0, 0.0]
    empty = torch.zeros(3, 0, 1, 4, device=device)
    assert attend_flash(*empty, Visible(queries=(), keys=()), scale=1.0).shape == (0, 1, 4)


def test_what_it_cannot_do_is_refused(device):
    see = Visible(queries=(1,), keys=(1,))
    with pytest.raises(BadInput, match="dropout"):
        attend_flash(*torch.zeros(3, 1, 1, 4), see, scale=1.0, dropout=0.1)
    with pytest.raises(BadInput, match=r"576 numbers.*take sdpa"):
        attend_flash(*torch.zeros(3, 1, 1, 576), see, scale=1.0)
    for tiles in (Tiles(queries=48, keys=16), Tiles(queries=16, keys=8)):
        with pytest.raises(BadInput, match="power of two"):
            attend_in(tiles, *torch.zeros(3, 1, 1, 4), see, scale=1.0)


FAULTS = [
    ("flash_forward", "total_T = total_T * shrink_T +", "total_T = total_T +"),
    ("flash_forward", "summed_TV * shrink_T[:, None] +", "summed_TV +"),
    ("flash_forward", "group = head // (heads // groups)", "group = head % groups"),
    ("flash_forward", "see_tile(keys - queries + query_T,", "see_tile(query_T,"),
    ("flash_forward", "near_start + (number - sink_tiles) * BLOCK_S", "near_start + number * BLOCK_S"),
    ("flash_forward", "top_T + tl.log(total_T)", "top_T"),
    ("scores", "distance_TS < WINDOW", "distance_TS <= WINDOW"),
    ("scores", "| (key_S < SINKS)[None, :]", "| (key_S < 0)[None, :]"),
    ("scores", "(key_S < held)[None, :]", "(key_S < held - 1)[None, :]"),
    ("scores", "slope_TS = 1.0 - share_TS * share_TS", "slope_TS = 1.0 - share_TS"),
    ("scores", "tl.where(x < 0, -size, size)", "size"),
    ("scores", "scores_TS += bias_TS", "scores_TS += 0.0"),
    ("flash_backward", "(dweights_TS - mean_T[:, None])", "dweights_TS"),
    ("flash_backward", "ds_TS = ds_TS * slope_TS * SCALE", "ds_TS = ds_TS * slope_TS"),
    ("flash_backward", "range(group * sharing, (group + 1) * sharing)", "range(group * sharing, group * sharing + 1)"),
    ("flash_backward", "range(reach_start, reach_end, BLOCK_T)", "range(reach_start, reach_end - BLOCK_T, BLOCK_T)"),
    ("tiles", "queries, first_key, keys,", "queries, first_query, keys,"),
    ("tiles", "first_bias += heads * queries * keys", "first_bias += queries * keys"),
]
BIASED = Case(see=Visible(queries=(5, 2), keys=(5, 4)), heads=4, groups=2, biased=True)
LONG = Case(see=Visible(queries=(20,), keys=(37,)), heads=2, groups=1, width=2, value_width=2)
PREFIX = Case(see=Visible(queries=(5, 2), keys=(5, 4), prefix=(3, 2)))
SOFT = Case(see=Visible(queries=(5,), keys=(5,)), softcap=1.5)
TELLING = (PREFIX, SOFT, BIASED, *SINKS, LONG)


@pytest.mark.proof
@pytest.mark.parametrize(("file", "right", "wrong"), FAULTS, ids=lambda text: text[:40])
def test_the_checks_catch_a_kernel_with_a_fault(device, spoilt, file, right, wrong):
    """A copy of the kernels with one line wrong must fail what the right ones pass."""
    attend = on(device, partial(spoilt(file, right, wrong)("flash").attend_in, SMALL))
    with pytest.raises(AssertionError, match=r"output|gradient"):
        check_attend(attend, TELLING)
