from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.models.encoder_decoder import EncoderDecoder, EncoderDecoderModel
from cutaway.models.stack import Stack
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Sinusoidal
from cutaway.nn.relative_bias import RelativeBias
from cutaway.ops.cross_entropy import cross_entropy_fast
from cutaway.ops.forms import FAST, READABLE

DIM, HEADS = 16, {"heads": 4, "kv_heads": 4, "head_dim": 4}


def original(layers: int = 2, norm: bool = False, **changed) -> EncoderDecoder:
    """Vaswani et al. 2017; `norm`: one more behind each stack, as torch.nn.Transformer has it."""
    mixer, feed = GroupedQuery(**HEADS, bias=True, out_bias=True), Plain(hidden=24, activation="relu")
    reads = Block(mixer=mixer, feed=feed, outside=LayerNorm())
    writes = replace(reads, cross=Cross(**HEADS, bias=True, out_bias=True))
    outer = {"positions": Sinusoidal(length=64), "norm": LayerNorm() if norm else None}
    told = {"vocab": 41, "dim": DIM, "embedding_scale": math.sqrt(DIM)} | changed
    stacks = {"encoder": Stack(blocks=(reads,) * layers, **outer), "decoder": Stack(blocks=(writes,) * layers, **outer)}
    return EncoderDecoder(**(stacks | told))


def t5() -> EncoderDecoder:
    mixer, feed = GroupedQuery(**HEADS, scale=1.0), Gated(hidden=24, activation="gelu_tanh")
    reads = Block(mixer=mixer, feed=feed, before=RMSNorm())
    writes = replace(reads, cross=Cross(**HEADS, scale=1.0))
    made = [
        Stack(
            blocks=(block,) * count,
            norm=RMSNorm(),
            relative=RelativeBias(heads=4, causal=block is writes, buckets=8, furthest=9),
        )
        for block, count in ((reads, 1), (writes, 2))
    ]
    return EncoderDecoder(vocab=41, dim=DIM, encoder=made[0], decoder=made[1], head_scale=DIM**-0.5, ends=(1,))


SHALLOW = original(layers=1)
VALUES = {
    "original": original(),
    "t5": t5(),
    "one table and a bias": original(layers=1, head_bias=True),
    "tables of their own": original(source_vocab=29, tied=False, head_bias=True),
    "learned positions, one block that does not look": replace(
        SHALLOW,
        encoder=replace(SHALLOW.encoder, positions=Learned(length=64)),
        decoder=replace(SHALLOW.decoder, blocks=(*SHALLOW.decoder.blocks, SHALLOW.encoder.blocks[0])),
    ),
}
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def build(spec: EncoderDecoder) -> EncoderDecoderModel:
    torch.manual_seed(0)
    module = spec.build().double().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def pairs(targets: tuple[int, ...] = (7, 1, 4), sources: tuple[int, ...] = (5, 9, 1)) -> Batch:
    make = torch.Generator().manual_seed(1)
    source = Batch(ids_N=torch.randint(29, (sum(sources),), generator=make), lengths=sources)
    return Batch(ids_N=torch.randint(41, (sum(targets),), generator=make), lengths=targets, source=source)


def alone(batch: Batch) -> list[Batch]:
    assert batch.source is not None
    ids, sources = batch.ids_N.split(batch.lengths), batch.source.ids_N.split(batch.source.lengths)
    return [
        Batch(ids_N=one, lengths=(len(one),), source=Batch(ids_N=source, lengths=(len(source),)))
        for one, source in zip(ids, sources, strict=True)
    ]


@EACH
@torch.no_grad()
def test_cached_equals_uncached_and_packed_equals_alone(spec):
    module, batch = build(spec), pairs()
    packed = module(batch.ids_N, Context.of(batch.lengths), source=batch.source)[0].split(batch.lengths)
    for one, expected in zip(alone(batch), packed, strict=True):
        # Float64 sums in another order.
        logits_TV, _ = module(one.ids_N, Context.of(one.lengths), source=one.source)
        assert torch.allclose(logits_TV, expected, atol=1e-11)
        cache, found = ContiguousCache(spec.streams(), dtype=torch.float64, capacity=1), []
        for step, ids in enumerate([one.ids_N[:1], *one.ids_N[1:].split(2)]):
            context = Context.of((len(ids),), cache=cache)
            found.append(module(ids, context, source=None if step else one.source)[0])
            cache.check()
        assert torch.allclose(torch.cat(found), expected, atol=1e-11)


@torch.no_grad()
def test_a_source_that_joins_later_finds_the_others_memories_kept():
    """Two sequences of one cache: the second begins when the first is under way."""
    spec = VALUES["t5"]
    module, batch = build(spec), pairs((4, 3), (5, 6))
    first, second = alone(batch)
    cache = ContiguousCache(spec.streams(), sequences=2, dtype=torch.float64)
    expected = [module(one.ids_N, Context.of(one.lengths), source=one.source)[0] for one in (first, second)]
    memory, _ = module.encode(first.source, Context.of((2,)))
    context = replace(Context.of((2, 0), cache=cache), memory=replace(memory, lengths=(5, 0)))
    start, _ = module(first.ids_N[:2], context)
    memory, _ = module.encode(second.source, Context.of((3,)))
    context = replace(Context.of((2, 3), cache=cache), memory=replace(memory, lengths=(0, 6)))
    rest, _ = module(torch.cat([first.ids_N[2:], second.ids_N]), context)
    cache.check()
    assert torch.allclose(torch.cat([start, rest[:2]]), expected[0], atol=1e-11)
    assert torch.allclose(rest[2:], expected[1], atol=1e-11)


@torch.no_grad()
def test_it_is_torchs_transformer():
    """Post-norm, with torch.nn.Transformer's weights and masks; embeddings, positions and head by their equations."""
    layers, batch = 2, pairs()
    spec = original(layers, norm=True)
    module = build(spec)
    theirs = nn.Transformer(DIM, 4, layers, layers, 24, dropout=0.0, batch_first=True).double().eval()
    copy_into(theirs, module)
    for one in alone(batch):
        assert one.source is not None
        vectors = [embedded(module.embedding.weight, ids) for ids in (one.source.ids_N, one.ids_N)]
        causal = nn.Transformer.generate_square_subsequent_mask(len(one.ids_N), dtype=torch.float64)
        x_TD = theirs(vectors[0][None], vectors[1][None], tgt_mask=causal, tgt_is_causal=True)[0]
        logits_TV, _ = module(one.ids_N, Context.of(one.lengths), source=one.source)
        # Our waves take their angles in float32, of up to 9 radians.
        torch.testing.assert_close(logits_TV, x_TD @ module.embedding.weight.T, atol=1e-6, rtol=1e-6)


def embedded(table_VD: torch.Tensor, ids_T: torch.Tensor) -> torch.Tensor:
    """sqrt(D) E[id] + PE(position), number by number (section 3.4 and 3.5)."""
    rows = []
    for position, id in enumerate(ids_T.tolist()):
        waves = [position / 10000 ** (2 * (i // 2) / DIM) for i in range(DIM)]
        waves = [math.sin(wave) if i % 2 == 0 else math.cos(wave) for i, wave in enumerate(waves)]
        rows.append(math.sqrt(DIM) * table_VD[id] + torch.tensor(waves, dtype=torch.float64))
    return torch.stack(rows)


def copy_into(theirs: nn.Transformer, ours: EncoderDecoderModel) -> None:
    def put(part, value):
        part.weight.copy_(value.weight)
        part.bias.copy_(value.bias)

    def attention(part, value):
        part.in_proj_weight.copy_(torch.cat([value.query.weight, value.key.weight, value.value.weight]))
        part.in_proj_bias.copy_(torch.cat([value.query.bias, value.key.bias, value.value.bias]))
        put(part.out_proj, value.out)

    for stack, mine in ((theirs.encoder, ours.encoder), (theirs.decoder, ours.decoder)):
        put(stack.norm, mine.norm)
        for layer, block in zip(stack.layers, mine.blocks, strict=True):
            attention(layer.self_attn, block.mixer)
            norms = [block.mixer_norms.outside, block.feed_norms.outside]
            if mine is ours.decoder:
                attention(layer.multihead_attn, block.cross)
                norms.insert(1, block.cross_norms.outside)
            for number, norm in enumerate(norms, 1):
                put(getattr(layer, f"norm{number}"), norm)
            put(layer.linear1, block.feed.up)
            put(layer.linear2, block.feed.down)


@EACH
def test_it_costs_what_it_says(spec):
    cost = spec.cost(1, 12, 7)
    assert cost.parameters == sum(parameter.numel() for parameter in spec.build().parameters())
    rows = {"memory": 7, "token": 12}
    held = sum(stream.bytes(rows[stream.per]) for streams in spec.streams() for stream in streams)
    assert cost.cache_bytes == held


@EACH
@torch.no_grad()
def test_flops_are_those_that_torch_counts(spec):
    """A step behind a cache, and the pass that begins a target of one token: nothing is hidden by a mask there."""
    from torch.utils.flop_counter import FlopCounterMode

    module, cache = spec.build(), ContiguousCache(spec.streams())
    source = Batch(ids_N=torch.zeros(7, dtype=torch.long), lengths=(7,))
    for length in (1, 2, 3):
        context = Context.of((1,), cache=cache, forms=READABLE)
        with FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, dtype=torch.long), context, source=source if length == 1 else None)
        assert counter.get_total_flops() == spec.cost(1, length, 7).flops


@EACH
def test_it_runs_on_the_meta_device(spec):
    """A stray tensor on the CPU would raise."""
    module = spec.build().to("meta")
    source = Batch(ids_N=torch.zeros(5, dtype=torch.long, device="meta"), lengths=(2, 3))
    ids_N = torch.zeros(5, dtype=torch.long, device="meta")
    for forms in (FAST, READABLE):
        logits_NV, _ = module(ids_N, Context.of((4, 1), device="meta", forms=forms), source=source)
        assert logits_NV.shape == (5, 41) and logits_NV.device.type == "meta"


@EACH
def test_gradients_reach_every_parameter_and_forms_agree(spec):
    module, batch, gradients = build(spec), pairs(), []
    for forms in (FAST, READABLE):
        logits_NV, _ = module(batch.ids_N, Context.of(batch.lengths, forms=forms), source=batch.source)
        gradients.append(torch.autograd.grad(logits_NV.square().mean(), list(module.parameters())))
    for (name, _), fast, slow in zip(module.named_parameters(), *gradients, strict=True):
        assert torch.allclose(fast, slow, atol=1e-10, rtol=1e-8), name
        if not name.endswith("key.bias"):  # one number added to all scores of a query changes no weight
            assert bool(fast.any()), name


def test_what_a_head_is_given_scores_as_its_logits_do():
    for spec in VALUES.values():
        module, batch = build(spec), pairs()
        context, targets_N = Context.of(batch.lengths), batch.ids_N.roll(-1)
        x_ND, _ = module.hidden(batch.ids_N, context, source=batch.source)

        def score(x, weight, targets_N=targets_N, **head):
            return cross_entropy_fast(x, weight, targets_N, **head)

        chunked = module.scored(x_ND, context, score)
        whole = nn.functional.cross_entropy(module.logits(x_ND, context), targets_N, reduction="sum")
        assert torch.allclose(chunked, whole, atol=1e-9)


def test_logits_of_the_rows_asked_for():
    module, batch = build(VALUES["t5"]), pairs()
    full, _ = module(batch.ids_N, Context.of(batch.lengths), source=batch.source)
    some, _ = module(batch.ids_N, Context.of(batch.lengths), torch.tensor([6, 7]), source=batch.source)
    assert torch.allclose(some, full[[6, 7]])


def test_what_is_wanted_is_reported_of_both_stacks():
    module, batch = build(VALUES["original"]), pairs()
    context = Context.of(batch.lengths, want=frozenset({"residual", "attention"}))
    _, report = module(batch.ids_N, context, source=batch.source)
    assert report["encoder.blocks.1.residual_ND"].shape == (15, DIM)
    assert report["decoder.blocks.0.cross.entropy_NH"].shape == report["decoder.blocks.0.mixer.entropy_NH"].shape
    assert {name.split(".")[0] for name in report} == {"encoder", "decoder"}


def test_sources_and_targets_must_be_as_many():
    module, batch = build(VALUES["t5"]), pairs()
    with pytest.raises(BadInput, match="3 sources for 2 targets"):
        module(batch.ids_N, Context.of((8, 4)), source=batch.source)
    with pytest.raises(BadInput, match="without tokens"):
        module(batch.ids_N, Context.of(batch.lengths), source=Batch(ids_N=torch.arange(3), lengths=(3, 0, 0)))


BOTH_WAYS = RelativeBias(heads=4, causal=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"vocab": 0},
        {"dim": -1},
        {"source_vocab": 0},
        {"start": 41},
        {"ends": (-1,)},
        {"dropout": 1.0},
        {"head_scale": -1.0},
        {"embedding_scale": 0.0},
        {"encoder": VALUES["t5"].decoder},
        {"decoder": VALUES["t5"].encoder},
        {"decoder": replace(VALUES["t5"].decoder, relative=BOTH_WAYS)},
    ],
)
def test_an_impossible_value_is_refused(wrong):
    with pytest.raises(BadInput, match="EncoderDecoder"):
        replace(VALUES["t5"], **wrong)


@pytest.mark.parametrize(("side", "sinks", "field"), [("decoder", 0, "window"), ("encoder", 1, "sinks")])
def test_what_does_not_fit_into_a_stack_is_refused(side, sinks, field):
    spec = VALUES["original"]
    stack = getattr(spec, side)
    mixer = replace(stack.blocks[0].mixer, window=64 - sinks, sinks=0)
    replace(spec, **{side: replace(stack, blocks=(replace(stack.blocks[0], mixer=mixer),))})
    mixer = replace(mixer, window=65 - 2 * sinks, sinks=sinks)
    with pytest.raises(BadInput, match=rf"GroupedQuery\.{field}"):
        replace(spec, **{side: replace(stack, blocks=(replace(stack.blocks[0], mixer=mixer),))})
