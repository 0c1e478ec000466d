from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import cutaway.ops.attend as module
from cutaway.lab.checks.attend import check_attend, check_half, check_large_scores
from cutaway.lab.checks.memory import Largest
from cutaway.ops.attend import Tilewise, attend_readable, attend_sdpa, attention_weights
from cutaway.ops.visible import Visible

BOTH = pytest.mark.parametrize("attend", [attend_readable, attend_sdpa])


@BOTH
def test_it_is_the_equation_forward_and_gradient(attend):
    check_attend(attend)


@BOTH
def test_large_scores_do_not_overflow(attend):
    check_large_scores(attend)


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(attend, dtype):
    check_half(attend, dtype)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("softcap", [None, 20.0])
def test_the_fast_form_equals_the_readable_one_at_real_sizes(seed, softcap):
    make = torch.Generator().manual_seed(seed)
    see = Visible(queries=(37, 1, 1, 5), keys=(37, 64, 3, 80), window=None if seed % 2 else 16)
    q = torch.randn(44, 9, 64, generator=make)
    k, v = (torch.randn(184, 3, 64, generator=make) for _ in range(2))
    fast, slow = (attend(q, k, v, see, scale=0.125, softcap=softcap) for attend in (attend_sdpa, attend_readable))
    # Float32 sums of 80 terms in another order.
    assert torch.allclose(fast, slow, atol=2e-6)


@pytest.mark.parametrize("window", [None, 64, 90])
@pytest.mark.parametrize(("heads", "groups"), [(9, 3), (4, 1), (4, 4)])
def test_a_decoders_step_equals_the_readable_form(heads, groups, window):
    """One query behind many keys, as they lie in a cache: head by head."""
    generator = torch.Generator().manual_seed(0)
    q_NHK = torch.randn(1, heads, 16, generator=generator)
    k_SGK, v_SGK = (torch.randn(groups, 90, 16, generator=generator)[:, :80].transpose(0, 1) for _ in range(2))
    see = Visible(queries=(1,), keys=(80,), window=window)
    fast, slow = (attend(q_NHK, k_SGK, v_SGK, see, scale=0.3) for attend in (attend_sdpa, attend_readable))
    assert fast.shape == slow.shape
    assert torch.allclose(fast, slow, atol=1e-6)  # sums of 80 weights in float32


@pytest.mark.parametrize("lengths", [(300,), (257, 257), (300, 20)])
@pytest.mark.parametrize("value_width", [16, 12])
def test_a_long_prompt_in_runs_equals_the_readable_form(lengths, value_width):
    see = Visible(queries=lengths, keys=lengths)
    q, k, v = (torch.randn(sum(lengths), heads, width) for heads, width in ((4, 16), (2, 16), (2, value_width)))
    with torch.no_grad():
        fast = attend_sdpa(q, k, v, see, scale=0.25)
    # Float32 sums of 300 terms in another order.
    assert torch.allclose(fast, attend_readable(q, k, v, see, scale=0.25), atol=3e-6)


RULES = (
    {"window": 40},
    {"window": 40, "sinks": 3},
    {"window": 500, "sinks": 3},
    {"causal": False, "window": 30},
    {"prefix": (150,)},
    {},
)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("keys", [300, 430])
def test_a_long_text_in_runs_equals_the_readable_form_under_every_rule(rule, keys, biased):
    see = Visible(queries=(300,), keys=(keys,), **rule)
    make = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(n, heads, 16, generator=make) for n, heads in ((300, 4), (keys, 2), (keys, 2)))
    bias_HTS = torch.randn(4, 300, keys, generator=make)

    def tile(index, queries, keys):
        return bias_HTS[:, queries.start : queries.stop, keys.start : keys.stop].clone()

    def never(index):
        raise AssertionError("the whole bias of a long text was asked for")

    told = {"scale": 0.25}
    with torch.no_grad():
        plain, tilewise = {"bias": lambda index: bias_HTS}, {"bias": Tilewise(whole=never, tile=tile)}
        fast = [attend_sdpa(q, k, v, see, **told, **one) for one in ((plain, tilewise) if biased else ({},))]
        slow = attend_readable(q, k, v, see, **told, **(plain if biased else {}))
    for one in fast:
        # Float32 sums of 430 terms in another order.
        assert torch.allclose(one, slow, atol=5e-6)


@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("keys", [300, 430])
def test_runs_in_bfloat16_round_only_what_is_multiplied(monkeypatch, rule, keys, pays):
    monkeypatch.setattr(module, "bfloat16_pays", lambda: pays)
    see = Visible(queries=(300, 300), keys=(keys, keys), **rule | ({"prefix": (150, 9)} if "prefix" in rule else {}))
    make = torch.Generator().manual_seed(0)
    q, k, v = (
        torch.randn(2 * n, heads, 16, generator=make).bfloat16() for n, heads in ((300, 4), (keys, 2), (keys, 2))
    )
    with torch.no_grad():
        fast = attend_sdpa(q, k, v, see, scale=0.25)
    assert fast.dtype == torch.bfloat16
    wrong_by = fast.float() - attend_readable(q.float(), k.float(), v.float(), see, scale=0.25)
    # A score below 8 is wrong by 2^-6 at most, a weight then by as large a share.
    assert wrong_by.abs().max() < 0.05 and wrong_by.square().mean().sqrt() < 2e-3


def test_a_run_in_bfloat16_holds_only_so_many_scores(monkeypatch):
    monkeypatch.setattr(module, "bfloat16_pays", lambda: True)
    q = torch.randn(300, 2, 16).bfloat16()
    see = Visible(queries=(300,), keys=(300,))
    with torch.no_grad():
        few = attend_sdpa(q, q, q, see, scale=0.25)
        monkeypatch.setattr(module, "SCORES", 2 * 128 * 200)
        monkeypatch.setattr(module, "_products", lambda *given: few.new_full((1, 2, 128, 16), 7.0))
        mixed = attend_sdpa(q, q, q, see, scale=0.25)
    assert (mixed[:128] == 7).all() and torch.allclose(mixed[128:256], few[128:256], atol=0.05)


@pytest.mark.parametrize("rule", [{"window": 64}, {"window": 64, "sinks": 4}])
def test_what_a_long_text_takes_does_not_grow_with_its_pairs(rule):
    bytes_ = []
    for tokens in (1024, 4096):
        see, q = Visible(queries=(tokens,), keys=(tokens,), **rule), torch.zeros(tokens, 1, 8)
        with torch.no_grad(), Largest() as largest:
            attend_sdpa(q, q, q, see, scale=1.0)
        bytes_.append(largest.bytes)
    assert bytes_[1] <= 4 * bytes_[0] and bytes_[1] < 4096 * 4096 / 4, "no mask of all pairs, one byte each"


def test_sequences_of_a_long_batch_keep_to_themselves():
    see = Visible(queries=(290, 290), keys=(290, 290), window=50, prefix=(40, 9))
    q, k, v = (torch.randn(580, 2, 8) for _ in range(3))
    for one in (see, replace(see, prefix=None)):
        with torch.no_grad():
            fast = attend_sdpa(q, k, v, one, scale=0.3)
        assert torch.allclose(fast, attend_readable(q, k, v, one, scale=0.3), atol=5e-6)


def test_under_autocast_a_training_pass_is_computed_in_float32():
    see = Visible(queries=(9, 9), keys=(9, 9))
    q, k, v = (torch.randn(18, heads, 16, requires_grad=True) for heads in (4, 2, 2))
    with torch.autocast("cpu", torch.bfloat16):
        y = attend_sdpa(q, k, v, see, scale=0.25)
    assert y.dtype == torch.float32
    torch.testing.assert_close(y, attend_sdpa(q, k, v, see, scale=0.25), rtol=0, atol=0)


@BOTH
def test_a_bias_takes_its_gradient(attend):
    """One learned number for each head and pair, as relative positions have them, in a batch of equal lengths."""
    make = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(6, 2, 4, generator=make, dtype=torch.float64) for _ in range(3))
    bias_HTS = torch.randn(2, 3, 3, generator=make, dtype=torch.float64, requires_grad=True)

    def run(bias_HTS):
        see = Visible(queries=(3, 3), keys=(3, 3))
        return attend(q, k, v, see, scale=0.5, bias=lambda index: bias_HTS)

    assert torch.autograd.gradcheck(run, bias_HTS)
    (gradient_HTS,) = torch.autograd.grad(run(bias_HTS).square().sum(), bias_HTS)
    assert bool((gradient_HTS.triu(1) == 0).all()), "what is hidden has no gradient"


def test_nothing_in_nothing_out():
    see = Visible(queries=(0,), keys=(2,))
    for attend in (attend_readable, attend_sdpa):
        y = attend(torch.zeros(0, 2, 4), torch.zeros(2, 1, 4), torch.zeros(2, 1, 4), see, scale=1.0)
        assert y.shape == (0, 2, 4)
        assert attend(*torch.zeros(3, 0, 1, 4), Visible(queries=(), keys=()), scale=1.0).shape == (0, 1, 4)


def test_dropout_drops_weights_and_keeps_their_sum_on_average():
    torch.manual_seed(0)
    see = Visible(queries=(1,), keys=(400,), causal=False)
    ones = torch.ones(400, 1, 1)
    drawn = torch.stack(
        [attend_readable(torch.zeros(1, 1, 1), ones, ones, see, scale=1.0, dropout=0.5) for _ in range(50)]
    )
    assert drawn.std() > 0.01
    assert abs(float(drawn.mean()) - 1.0) < 0.03  # 20,000 coins: three deviations are 0.021


def test_weights_are_distributions_over_what_is_seen():
    see = Visible(queries=(3,), keys=(5,), window=2)
    weights = attention_weights(torch.randn(3, 4, 8), torch.randn(5, 2, 8), see.mask(0), scale=1.0)
    assert torch.allclose(weights.sum(-1), torch.ones(4, 3))
    assert bool((weights[:, ~see.mask(0)] == 0).all())


def no_scale(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k, v, see, scale=1.0, softcap=softcap)


def sees_all(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k, v, replace(see, causal=False), scale=scale, softcap=softcap)


def no_window(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k, v, replace(see, window=None), scale=scale, softcap=softcap)


def heads_dealt_in_turn(q, k, v, see, *, scale, softcap=None):
    groups = k.shape[1]
    order = [h for g in range(groups) for h in range(g, q.shape[1], groups)]
    back = sorted(range(len(order)), key=order.__getitem__)
    return attend_readable(q[:, order], k, v, see, scale=scale, softcap=softcap)[:, back]


def forgets_the_gradient_of_k(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k.detach() + 0 * k, v, see, scale=scale, softcap=softcap)


def no_cap(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k, v, see, scale=scale)


def no_prefix(q, k, v, see, *, scale, softcap=None):
    return attend_readable(q, k, v, replace(see, prefix=None), scale=scale, softcap=softcap)


def no_bias(q, k, v, see, *, scale, softcap=None, bias=None):
    return attend_readable(q, k, v, see, scale=scale, softcap=softcap)


def bias_uncovers(q, k, v, see, *, scale, softcap=None, bias=None):
    see = see if bias is None else replace(see, causal=False)
    return attend_readable(q, k, v, see, scale=scale, softcap=softcap, bias=bias)


def bias_of_the_first(q, k, v, see, *, scale, softcap=None, bias=None):
    def first(index):
        return bias(0)[:, -see.queries[index] :, -see.keys[index] :]

    return attend_readable(q, k, v, see, scale=scale, softcap=softcap, bias=bias and first)


def starts_aligned(q, k, v, see, *, scale, softcap=None):
    """Takes query t for key t, also behind a cache."""
    parts = zip(q.split(see.queries), k.split(see.keys), v.split(see.keys), see.queries, strict=True)
    cut = [(a, b[:n], c[:n]) for a, b, c, n in parts]
    see = replace(see, keys=see.queries)
    k, v = torch.cat([b for _, b, _ in cut]), torch.cat([c for _, _, c in cut])
    return attend_readable(q, k, v, see, scale=scale, softcap=softcap)


WRONG = [
    no_scale,
    sees_all,
    no_window,
    heads_dealt_in_turn,
    forgets_the_gradient_of_k,
    no_cap,
    no_prefix,
    no_bias,
    bias_uncovers,
    bias_of_the_first,
    starts_aligned,
]


@pytest.mark.parametrize("wrong", WRONG)
def test_the_check_catches_a_wrong_attention(wrong):
    with pytest.raises(AssertionError):
        check_attend(wrong)


def test_the_check_catches_an_overflowing_softmax():
    def naive(q, k, v, see, *, scale):
        weights = torch.einsum("nhk,shk->hns", q, k).mul(scale).exp().masked_fill(~see.mask(0), 0)
        return torch.einsum("hns,shk->nhk", weights / weights.sum(-1, keepdim=True), v)

    with pytest.raises(AssertionError):
        check_large_scores(naive)
