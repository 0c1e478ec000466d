from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.linear import Linear
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope, Sinusoidal
from cutaway.ops.attend import attention_weights
from cutaway.ops.forms import FAST, READABLE

NEAR = GroupedQuery(heads=4, kv_heads=2, head_dim=4, rope=Rope(width=4), window=6)
FAR = GroupedQuery(heads=4, kv_heads=1, head_dim=4, rope=Rope(width=4, theta=1e6), head_norm=RMSNorm(offset=1.0))
PLAIN = GroupedQuery(heads=2, kv_heads=2, head_dim=8, bias=True, out_bias=True)
SANDWICH = [
    Block(mixer=mixer, feed=Gated(hidden=24), before=RMSNorm(offset=1.0), after=RMSNorm(offset=1.0))
    for mixer in (NEAR, FAR)
]
VALUES = {
    "pre-norm": Decoder(
        vocab=50,
        dim=16,
        length=64,
        norm=RMSNorm(),
        blocks=(Block(mixer=NEAR, feed=Gated(hidden=24), before=RMSNorm()),) * 3,
    ),
    "post-norm": Decoder(
        vocab=50,
        dim=16,
        length=64,
        positions=Learned(length=64),
        blocks=(Block(mixer=PLAIN, feed=Plain(hidden=32), outside=LayerNorm()),) * 2,
    ),
    "sandwich": Decoder(
        vocab=50,
        dim=16,
        length=64,
        norm=RMSNorm(offset=1.0),
        embedding_scale=4.0,
        softcap=30.0,
        blocks=(*SANDWICH, SANDWICH[0]),
    ),
    "untied": Decoder(
        vocab=50,
        dim=16,
        length=64,
        tied=False,
        head_bias=True,
        positions=Sinusoidal(length=64),
        blocks=(Block(mixer=PLAIN, feed=Plain(hidden=32), before=LayerNorm(bias=False)),),
    ),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: Decoder) -> torch.nn.Module:
    torch.manual_seed(0)
    module = spec.build().double().eval()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return module


@EACH
@torch.no_grad()
def test_cached_equals_uncached_and_packed_equals_alone(spec):
    module, lengths = build(spec), (13, 1, 8)
    ids_N = torch.randint(50, (sum(lengths),))
    full = module(ids_N, Context.of(lengths))[0].split(lengths)
    for ids, packed in zip(ids_N.split(lengths), full, strict=True):
        assert torch.allclose(module(ids, Context.of((len(ids),)))[0], packed, atol=1e-10)
        cache = ContiguousCache(spec.streams(), dtype=torch.float64, capacity=1)
        stepped = [module(id, Context.of((1,), cache=cache))[0] for id in ids.split(1)]
        cache.check()
        assert torch.allclose(torch.cat(stepped), packed, atol=1e-10)


@EACH
def test_it_costs_what_it_says(spec):
    cost = spec.cost(1, 40)
    assert cost.parameters == sum(parameter.numel() for parameter in spec.build().parameters())
    assert cost.cache_bytes == sum(stream.bytes(40) for streams in spec.streams() for stream in streams)


@EACH
def test_it_runs_on_the_meta_device(spec):
    """A stray tensor on the CPU would raise."""
    module = spec.build().to("meta")
    ids_N = torch.zeros(5, dtype=torch.long, device="meta")
    for forms in (FAST, READABLE):
        logits_NV, _ = module(ids_N, Context.of((2, 3), device="meta", forms=forms))
        assert logits_NV.shape == (5, 50) and logits_NV.device.type == "meta"
    cache = ContiguousCache(spec.streams(), device="meta")
    for ids in ids_N.split([3, 1, 1]):
        module(ids, Context.of((len(ids),), cache=cache, device="meta"))


@EACH
def test_gradients_reach_every_parameter_and_forms_agree(spec):
    module, ids_N = build(spec), torch.randint(50, (9,))
    gradients = []
    for forms in (FAST, READABLE):
        logits_NV, _ = module(ids_N, Context.of((9,), forms=forms))
        gradients.append(torch.autograd.grad(logits_NV.square().mean(), list(module.parameters())))
    for (name, _), fast, slow in zip(module.named_parameters(), *gradients, strict=True):
        assert torch.allclose(fast, slow, atol=1e-10, rtol=1e-8), name
        if not name.endswith("key.bias"):  # one number added to all scores of a query changes no weight
            assert bool(fast.any()), name


@EACH
@torch.no_grad()
def test_parts_may_compute_in_bfloat16_between_sums_that_do_not(spec):
    module, ids_N = build(spec).float(), torch.randint(50, (9,))
    wide, _ = module(ids_N, Context.of((9,)))
    cache = ContiguousCache(spec.streams())
    for part in module.modules():  # what packed maps do by themselves: multiply in the dtype that comes in
        if isinstance(part, Linear) and part is not module.head:
            part.to(torch.bfloat16)
    steps = [module(id, Context.of((1,), cache=cache, narrow=torch.bfloat16))[0] for id in ids_N.split(1)]
    got = torch.cat(steps)
    assert got.dtype == torch.float32 and cache.read(0, "value")[0].dtype == torch.float32
    # Each of a few products rounds to 8 bits; logits of size 10 or less.
    assert torch.allclose(got, wide, atol=0.05 * float(wide.abs().max()))
    assert not torch.equal(got, wide)


def test_logits_of_the_rows_asked_for():
    module, ids_N = build(VALUES["pre-norm"]), torch.randint(50, (9,))
    full, _ = module(ids_N, Context.of((9,)))
    last, _ = module(ids_N, Context.of((9,)), torch.tensor([8]))
    assert torch.allclose(last[0], full[8])


def test_the_residual_behind_each_block_is_reported_where_wanted():
    module, ids_N = build(VALUES["sandwich"]), torch.randint(50, (4,))
    logits, report = module(ids_N, Context.of((4,), want=frozenset({"residual"})))
    assert set(report) == {f"blocks.{layer}.residual_ND" for layer in range(3)}
    assert torch.allclose(module.logits(report["blocks.2.residual_ND"], Context.of((4,))), logits)


def test_a_prefix_is_seen_by_all_and_changes_only_what_should():
    spec = replace(VALUES["post-norm"])
    module, ids_N = build(spec), torch.randint(50, (6,))
    other = ids_N.clone()
    other[2] = (other[2] + 1) % 50
    changed = [
        (module(ids_N, Context.of((6,), prefix=p))[0] - module(other, Context.of((6,), prefix=p))[0]).abs().amax(-1)
        > 1e-9
        for p in (None, (3,))
    ]
    assert changed[0].tolist() == [False, False, True, True, True, True]
    assert changed[1].tolist() == [True] * 6


def explicit(lengths: tuple[int, ...], prefix: tuple[int, ...]):
    """Attention under a mask that is written out pair by pair, for full passes: the oracle of the prefix."""

    def attend(q_NHK, k_SGK, v_SGK, see, *, scale, softcap=None, dropout=0.0):
        outputs, first = [], 0
        for length, held in zip(lengths, prefix, strict=True):
            rows = slice(first, first + length)
            seen = [[key <= query or key < held for key in range(length)] for query in range(length)]
            if see.window is not None:
                for query in range(length):
                    seen[query] = [seen[query][key] and abs(query - key) < see.window for key in range(length)]
            weights = attention_weights(q_NHK[rows], k_SGK[rows], torch.tensor(seen), scale=scale, softcap=softcap)
            values = v_SGK[rows].repeat_interleave(q_NHK.shape[1] // v_SGK.shape[1], dim=1).transpose(0, 1)
            outputs.append((weights @ values).transpose(0, 1))
            first += length
        return torch.cat(outputs)

    return attend


@EACH
@pytest.mark.parametrize(
    ("lengths", "prefix"),
    [((7, 7, 7), (3, 3, 3)), ((7, 7, 7), (3, 0, 7)), ((7, 4, 4, 1), (5, 1, 4, 1)), ((6,), (1,))],
    ids=["alike", "equal lengths", "ragged", "one token"],
)
@torch.no_grad()
def test_a_prefix_is_the_mask_written_out_and_cached_decoding_agrees(spec, lengths, prefix):
    module, ids_N = build(spec), torch.randint(50, (sum(lengths),))
    oracle = Context.of(lengths, prefix=prefix, forms=replace(READABLE, attend=explicit(lengths, prefix)))
    expected = module(ids_N, oracle)[0]
    for forms in (FAST, READABLE):
        got = module(ids_N, Context.of(lengths, prefix=prefix, forms=forms))[0]
        assert torch.allclose(got, expected, atol=1e-10)
    assert prefix == (1,) or not torch.allclose(module(ids_N, Context.of(lengths))[0], expected, atol=1e-4)

    # The prefix in one pass, and what follows in steps of one or two tokens.
    sequences, streams = ids_N.split(lengths), spec.streams()
    cache = ContiguousCache(streams, dtype=torch.float64, sequences=len(lengths))
    found: list[list[torch.Tensor]] = [[] for _ in lengths]
    counts = tuple(max(held, min(1, length)) for held, length in zip(prefix, lengths, strict=True))
    while any(counts):
        at = cache.lengths
        step = [one[old : old + new] for one, old, new in zip(sequences, at, counts, strict=True)]
        logits = module(torch.cat(step), Context.of(counts, prefix=prefix, cache=cache))[0]
        for parts, part in zip(found, logits.split(counts), strict=True):
            parts.append(part)
        counts = tuple(min(2, length - held) for length, held in zip(lengths, cache.lengths, strict=True))
    assert torch.allclose(torch.cat([part for parts in found for part in parts]), expected, atol=1e-10)


def test_a_prefix_in_pieces_is_refused_with_a_cache():
    spec = VALUES["post-norm"]
    module, ids_N = build(spec), torch.randint(50, (6,))
    cache = ContiguousCache(spec.streams(), dtype=torch.float64)
    with pytest.raises(BadInput, match="the 4 tokens of a prefix must come in one pass"):
        module(ids_N[:3], Context.of((3,), prefix=(4,), cache=cache))
    cache = ContiguousCache(spec.streams(), dtype=torch.float64)
    module(ids_N[:3], Context.of((3,), cache=cache))
    with pytest.raises(BadInput, match="must come in one pass"):
        module(ids_N[3:], Context.of((3,), prefix=(4,), cache=cache))
    with pytest.raises(BadInput, match="1 sequences, 2 prefixes"):
        module(ids_N, Context.of((6,), prefix=(1, 2)))


def test_gpt2_has_its_parameters():
    """124,439,808 of the smallest, by the value alone and on the meta device."""
    mixer = GroupedQuery(heads=12, kv_heads=12, head_dim=64, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=3072), before=LayerNorm())
    spec = Decoder(
        vocab=50257, dim=768, blocks=(block,) * 12, length=1024, norm=LayerNorm(), positions=Learned(length=1024)
    )
    assert spec.cost(1, 1).parameters == 124_439_808
    with torch.device("meta"):
        module = spec.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == 124_439_808


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab": 0},
        {"dim": -1},
        {"length": 0},
        {"blocks": ()},
        {"head_bias": True},
        {"dropout": 1.0},
        {"softcap": 0.0},
        {"embedding_scale": float("inf")},
    ],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="Decoder"):
        replace(VALUES["pre-norm"], **wrong)


NATIVE = NativeSparse(heads=2, kv_heads=1, head_dim=4, block=4, stride=2, select=4, top_k=3, window=3)
BANDED = BlockSparse(heads=2, kv_heads=1, head_dim=4, block=4, seen=mask(3, near=2))


@pytest.mark.parametrize(
    ("mixer", "longest", "field"),
    [
        (NEAR, 6, "GroupedQuery.window"),
        (replace(NEAR, sinks=2), 8, "GroupedQuery.window"),
        (NATIVE, 9, "NativeSparse.top_k"),  # 9 tokens are three blocks of 4, 8 are two
        (replace(NATIVE, window=20), 20, "NativeSparse.window"),
        (replace(NATIVE, block=10, select=10, stride=5, top_k=3), 21, "NativeSparse.top_k"),
    ],
)
def test_what_does_not_fit_into_the_longest_text_is_refused(mixer, longest, field):
    blocks = (replace(SANDWICH[0], mixer=mixer),) * 2
    replace(VALUES["sandwich"], length=longest, blocks=blocks)
    with pytest.raises(BadInput, match=rf"{field}: .*\b{longest - 1}\b"):
        replace(VALUES["sandwich"], length=longest - 1, blocks=blocks)


def test_a_mask_of_blocks_goes_as_far_as_the_longest_text():
    blocks = (replace(SANDWICH[0], mixer=BANDED),)
    replace(VALUES["sandwich"], length=12, blocks=blocks)
    with pytest.raises(BadInput, match=r"BlockSparse\.seen: .* before token 13"):
        replace(VALUES["sandwich"], length=13, blocks=blocks)


def test_positions_that_do_not_fit_and_a_look_across_at_nothing_are_refused():
    with pytest.raises(BadInput, match=r"Learned\.length: 63 vectors end before token 64"):
        replace(VALUES["post-norm"], positions=Learned(length=63))
    with pytest.raises(BadInput, match=r"Sinusoidal\.dim"):
        replace(VALUES["untied"], dim=15)
    with pytest.raises(BadInput, match=r"Block\.cross"):
        replace(VALUES["sandwich"], blocks=(replace(SANDWICH[0], cross=Cross(heads=2, kv_heads=1, head_dim=4)),))


@EACH
def test_what_is_scored_is_what_gives_the_logits(spec):
    module, context = build(spec), Context.of((5,))
    x_ND, _ = module.hidden(torch.randint(50, (5,)), context)

    def score(x_ND, weight_VD, *, bias_V=None, softcap=None):
        logits_NV = torch.nn.functional.linear(x_ND, weight_VD, bias_V)
        return logits_NV if softcap is None else softcap * torch.tanh(logits_NV / softcap)

    assert torch.allclose(module.scored(x_ND, context, score), module.logits(x_ND, context), atol=1e-12)


def test_a_head_without_a_matrix_is_scored_by_its_logits():
    module, context = build(VALUES["untied"]), Context.of((5,))
    head = module.head

    class Other(torch.nn.Module):
        def forward(self, x_ND, context):
            return head(x_ND, context)

    module.head = Other()
    x_ND, _ = module.hidden(torch.randint(50, (5,)), context)
    assert module.scored(x_ND, context, lambda logits_NV, weight: weight or logits_NV).shape == (5, 50)
