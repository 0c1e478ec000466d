from __future__ import annotations

import pytest
import torch
from transformers.models.qwen3_next import modeling_qwen3_next as theirs

from cutaway.ops import delta
from cutaway.ops.delta import delta_chunked, delta_readable, rectangles

BOTH = pytest.mark.parametrize("rule", [delta_readable, delta_chunked])


def told(lengths, heads=4, key_heads=2, dtype=torch.float64, seed=0):
    """Queries and keys of length 1, as the parts make them; states that are not zero; fading of all speeds."""
    make, count = torch.Generator().manual_seed(seed), sum(lengths)

    def draw(*shape):
        return torch.randn(*shape, generator=make, dtype=torch.float64).to(dtype)

    q, k = (torch.nn.functional.normalize(draw(count, key_heads, 5), dim=-1) for _ in range(2))
    fade = -draw(count, heads).square() * torch.tensor([0.01, 0.3, 1.0, 30.0])[:heads].to(dtype)
    state = draw(len(lengths), heads, 5, 3)
    return q, k, draw(count, heads, 3), fade, draw(count, heads).sigmoid(), state, lengths


@pytest.mark.parametrize("chunk", [1, 3, 4, 64])
@pytest.mark.parametrize("lengths", [(9,), (1,), (4, 4, 1, 1, 0, 13), (0,)])
def test_chunks_equal_single_tokens(monkeypatch, chunk, lengths):
    """Values, states and every gradient, in float64: the same sums in another order."""
    monkeypatch.setattr(delta, "CHUNK", chunk)
    found = []
    for rule in (delta_readable, delta_chunked):
        *leaves, _ = given = told(lengths)
        for leaf in leaves:
            leaf.requires_grad_()
        y, state = rule(*given)
        slope = torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)
        total = (y * slope).sum() + (state * state.detach().cos()).sum()
        found.append([y, state, *torch.autograd.grad(total, leaves, allow_unused=True)])
    for one, other in zip(*found, strict=True):
        none = torch.zeros(())
        torch.testing.assert_close(none if one is None else one, none if other is None else other, atol=1e-11, rtol=0)


@BOTH
def test_twin_of_the_fallback_in_transformers(rule):
    """Both of its forms, over a text longer than their chunk; float32 sums of 130 terms in another order."""
    lengths = (130,)
    q, k, v, fade, write, state, _ = told(lengths, dtype=torch.float32)
    y, end = rule(q * 5**-0.5, k, v, fade, write, state, lengths)
    for other in (theirs.torch_chunk_gated_delta_rule, theirs.torch_recurrent_gated_delta_rule):
        given = (one[None] for one in (q, k, v, fade, write))
        expected, kept = other(*given, initial_state=state, output_final_state=True)
        torch.testing.assert_close(y, expected[0], atol=2e-5, rtol=2e-5)
        torch.testing.assert_close(end, kept, atol=2e-5, rtol=2e-5)


@BOTH
def test_a_memory_gives_back_what_was_written_last(rule):
    """Keys that stand upright on each other, nothing fades, all is written: a table that is overwritten."""
    k = torch.eye(5, dtype=torch.float64)[[0, 3, 0, 1]][:, None]
    v = torch.arange(12, dtype=torch.float64).view(4, 1, 3)
    still, state = torch.zeros(4, 1, dtype=torch.float64), torch.zeros(1, 1, 5, 3, dtype=torch.float64)
    y, state = rule(k, k, v, still, still + 1, state, (4,))
    assert torch.equal(y, v) and torch.equal(state[0, 0, 0], v[2, 0]) and torch.equal(state[0, 0, 3], v[1, 0])
    assert not state[0, 0, 2].any()


@BOTH
def test_a_text_in_two_passes(rule):
    q, k, v, fade, write, state, _ = told((11,))
    whole, end = rule(q, k, v, fade, write, state, (11,))
    first, between = rule(*(one[:7] for one in (q, k, v, fade, write)), state, (7,))
    second, last = rule(*(one[7:] for one in (q, k, v, fade, write)), between, (4,))
    torch.testing.assert_close(torch.cat((first, second)), whole, atol=1e-12, rtol=0)
    torch.testing.assert_close(last, end, atol=1e-12, rtol=0)


@BOTH
def test_half_precision_is_worked_out_in_float32(rule):
    given = told((40,), dtype=torch.bfloat16)
    wide = tuple(one.float() if isinstance(one, torch.Tensor) else one for one in given)
    y, state = rule(*given[:5], wide[5], (40,))
    expected, end = rule(*wide)
    assert y.dtype == torch.bfloat16 and state.dtype == torch.float32
    assert torch.equal(y, expected.bfloat16())
    torch.testing.assert_close(state, end, atol=1e-6, rtol=1e-6)


def test_autocast_changes_nothing():
    given = told((70,), dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        y, state = delta_chunked(*given)
    assert torch.equal(y, delta_chunked(*given)[0]) and torch.equal(state, delta_chunked(*given)[1])


def test_strong_fading_has_a_gradient():
    """What is hidden would have grown beyond all numbers: e^(30 x 64) of a chunk."""
    *leaves, lengths = told((64,), dtype=torch.float32)
    leaves[3] = torch.full_like(leaves[3], -30.0)
    for leaf in leaves:
        leaf.requires_grad_()
    slopes = torch.autograd.grad(delta_chunked(*leaves, lengths)[0].sum(), leaves)
    assert all(bool(slope.isfinite().all()) for slope in slopes)


def test_rectangles_are_neighbours_of_equal_lengths():
    found = [((one.start, one.stop), (other.start, other.stop)) for one, other in rectangles((3, 3, 0, 3))]
    assert found == [((0, 2), (0, 6)), ((2, 3), (6, 6)), ((3, 4), (6, 9))]
