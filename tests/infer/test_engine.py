"""The law of the engine: requests together, each as alone. Alone means the contiguous cache, a token at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence as Row
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from tests.infer.quantising import decoder
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.guessing import Guessing
from cutaway.infer.request import Request, Sequence
from cutaway.infer.rules import ruled
from cutaway.infer.sampler import choose
from cutaway.infer.scheduler import Limits
from cutaway.infer.ties import lead, parted
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.block_sparse import BlockSparse, mask
from cutaway.nn.attention.gated_delta import GatedDelta
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.latent import Latent
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block, Part
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SoftmaxTopK
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope
from cutaway.nn.rope_scaling import DynamicNtk
from cutaway.nn.stream import Stream
from cutaway.ops.forms import NAMED
from cutaway.ops.packed import Packed

VOCAB, DIM, LENGTH = 24, 16, 64
HEADS = {"heads": 4, "kv_heads": 2, "head_dim": 4}
ROPE = Rope(width=4)
# Room for about three requests of the longest, parts of prompts in every step, and some that wait.
LIMITS = Limits(tokens=96, sequences=5, budget=13, page=4, slack=0)


@dataclass(frozen=True, kw_only=True)
class Fading:
    """A mixer that keeps a state: each number fades by half with every token."""

    def build(self, dim: int) -> nn.Module:
        return FadingMixer()

    def check(self, length: int | None, *, causal: bool) -> None: ...

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        return Cost()

    def streams(self, dim: int) -> tuple[Stream, ...]:
        return (Stream("state", (dim,), per="sequence"),)


class FadingMixer(nn.Module):
    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        assert context.cache is not None
        states, _ = context.cache.read(context.layer, "state")
        rows, ends = [], []
        for x_TD, state_D in zip(x_ND.split(context.lengths), states, strict=True):
            for x_D in x_TD:
                state_D = 0.5 * state_D + x_D
                rows.append(state_D)
            ends.append(state_D)
        context.cache.replace(context.layer, "state", torch.stack(ends))
        return torch.stack(rows), {}


FULL = GroupedQuery(**HEADS, rope=ROPE)
MIXERS: dict[str, tuple[Part, ...]] = {
    "full": (FULL,),
    "multi-head": (replace(FULL, kv_heads=4),),
    "multi-query": (replace(FULL, kv_heads=1),),
    "window": (replace(FULL, window=6),),
    "window and full, soft cap": (replace(FULL, window=5, softcap=3.0), FULL),
    "sinks": (replace(FULL, window=5, sinks=2),),
    "alibi": (GroupedQuery(**HEADS, alibi=Alibi()),),
    "dynamic rope": (GroupedQuery(**HEADS, rope=Rope(width=4, scaling=DynamicNtk(factor=2.0, original_length=16))),),
    "latent": (Latent(heads=4, rank=6, head_dim=4, rope=ROPE),),
    "native sparse": (NativeSparse(**HEADS, block=4, stride=2, select=4, top_k=3, window=5, rope=ROPE),),
    "block sparse": (BlockSparse(**HEADS, block=8, seen=mask(8, near=2, first=1), rope=ROPE),),
    "gated": (replace(FULL, gated=True),),
    "gated delta, a state": (GatedDelta(heads=4, key_heads=2, head_dim=4), FULL),
    "a state": (Fading(), FULL),
    "only a state": (Fading(),),
}
FEED = Gated(hidden=24)
EXPERTS = Experts(count=4, expert=Gated(hidden=12), router=SoftmaxTopK(top_k=2))


def model(*mixers: Part, feed: Part = FEED, seed: int = 0) -> DecoderModel:
    """Random weights, large enough that texts differ."""
    torch.manual_seed(seed)
    blocks = tuple(Block(mixer=mixer, feed=feed, before=RMSNorm()) for mixer in mixers or (FULL,))
    module = Decoder(vocab=VOCAB, dim=DIM, blocks=blocks * 2, length=LENGTH, norm=RMSNorm()).build()
    for parameter in module.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.4)
    return module.eval()


def requests(count: int, seed: int, most: int = 30) -> list[Request]:
    """Prompts of all lengths, many of which begin alike; all ways to choose."""
    draw = random.Random(seed)
    common = [draw.randrange(VOCAB) for _ in range(most)]
    made = []
    for _ in range(count):
        prompt = [draw.randrange(VOCAB) for _ in range(draw.randint(1, most))]
        shared = draw.choice((0, 0, 9, 16, 22))
        prompt[:shared] = common[: min(shared, len(prompt))]
        told: dict[str, Any] = draw.choice(
            ({}, {}, {"temperature": 0.8}, {"temperature": 1.2, "top_p": 0.9, "repetition_penalty": 1.3})
        )
        decoding = Decoding(max_tokens=draw.randint(1, 12), seed=draw.randrange(100), **told)
        ends = frozenset({draw.randrange(VOCAB)}) if draw.random() < 0.5 else frozenset()
        samples = 2 if draw.random() < 0.25 else 1
        made.append(
            Request(prompt=tuple(prompt), decoding=decoding, ends=ends, samples=samples, priority=draw.randint(0, 1))
        )
    return made


def alone(engine: Engine, sequence: Sequence) -> tuple[int, ...]:
    """The answer by the contiguous cache: the whole prompt, then one token after another."""
    return tuple(token for token, _ in told_alone(engine, sequence))


def told_alone(engine: Engine, sequence: Sequence) -> list[tuple[int, float]]:
    """The same, each token with its logprob."""
    request, runner, told = sequence.request, engine.runner, []
    held = Continuation(runner.module, runner.forms, dtype=runner.dtype, device=runner.device, kept=runner.kept)
    draw = Sequence(request, 0, sequence.index, limit=0, due=0).draw
    with torch.inference_mode(), runner.rounded():
        ids = list(request.prompt)
        logits_V = held.feed(held.rewind(ids, room=LENGTH))
        for _ in range(min(request.decoding.max_tokens, LENGTH - len(ids) + 1)):
            chosen_V = ruled(logits_V, request.decoding, ids, len(request.prompt), request.ends)
            ids.append(choose(chosen_V, request.decoding, draw, ids))
            told.append((ids[-1], float(logits_V[ids[-1]] - logits_V.logsumexp(-1))))
            if ids[-1] in request.ends:
                break
            if len(ids) <= LENGTH:
                logits_V = held.feed(ids[-1:])
    return told


def together(engine: Engine, asked: Row[Request], draw: random.Random) -> dict[Sequence, list[tuple[int, float]]]:
    """Requests that come in while others are being answered: the tokens of each sequence with their logprobs."""
    told: dict[Sequence, list[tuple[int, float]]] = {}
    left = list(asked)
    while left or not engine.idle:
        for _ in range(draw.choice((0, 1, 3)) if not engine.idle else 4):
            if left:
                told |= {one: [] for one in engine.submit(left.pop()).siblings}
        for each in engine.step():
            told[each.sequence].append((each.token or 0, each.logprob))
        engine.check()
    assert all(pool.held == 0 for pool in engine.scheduler.tables.pools), "a page leaked"
    return told


def law(
    module: DecoderModel,
    asked: Row[Request],
    seed: int,
    limits: Limits = LIMITS,
    kept: torch.dtype | None = None,
    guessing: Guessing | None = None,
) -> list[Sequence]:
    engine = Engine(module, limits=limits, deterministic=True, kept=kept, guessing=guessing)
    found = together(engine, asked, random.Random(seed))
    expected = {one: told_alone(engine, one) for one in found}
    wrong = [one for one in found if one.answer != tuple(token for token, _ in expected[one])]
    assert not wrong, f"{len(wrong)} of {len(found)} differ, the first for {wrong[0].request}"
    pairs = [pair for one in found for pair in zip(found[one], expected[one], strict=True)]
    # Also the logits, to the last bit: two orders of a sum round to different float32 once in 1e8 times.
    equal = sum(ours == theirs for ours, theirs in pairs) / len(pairs)
    assert equal >= 0.99, f"{1 - equal:.0%} other numbers than alone"
    return list(found)


@pytest.mark.parametrize("name", MIXERS)
def test_requests_together_are_each_as_alone(name):
    sequences = law(model(*MIXERS[name]), requests(8, 1), 1)
    # A dynamic rope turns by the prompt's length: only prompts of one length could share.
    assert name == "dynamic rope" or any(one.shared for one in sequences), "nothing was shared"
    assert any(len(one.request.prompt) > LIMITS.budget for one in sequences), "no prompt came in parts"


@pytest.mark.parametrize("kept", [torch.int8, torch.bfloat16])
@pytest.mark.parametrize("name", ["full", "sinks", "latent", "native sparse", "gated delta, a state", "a state"])
def test_so_they_are_where_pages_hold_fewer_bits(name, kept):
    sequences = law(model(*MIXERS[name]), requests(6, 1), 1, kept=kept)
    assert any(one.shared for one in sequences), "nothing was shared"


def test_pages_of_8_bits_take_what_their_streams_say():
    module = model(FULL)
    sizes = {kept: Engine(module, kept=kept).runner.cache.bytes for kept in (None, torch.bfloat16, torch.int8)}
    # Heads of 4 numbers: 4 bytes and 2 of their scale, where float32 has 16.
    assert sizes[torch.bfloat16] * 2 == sizes[None] and sizes[torch.int8] * 16 == sizes[None] * 6


def test_experts_together_are_each_as_alone():
    law(model(FULL, feed=EXPERTS), requests(8, 2), 2)


@pytest.mark.parametrize("name", ["full", "sinks", "latent", "native sparse", "gated delta, a state", "a state"])
def test_those_who_were_preempted_go_on_as_if_nothing_had_been(name):
    limits = Limits(tokens=24, sequences=6, budget=13, page=4, slack=0)
    sequences = law(model(*MIXERS[name]), requests(8, 3, most=8), 3, limits)
    assert any(one.preemptions for one in sequences), "nobody was preempted"


@pytest.mark.proof
def test_a_thousand_requests_together_are_each_as_alone():
    """Over all mixers, page sizes, budgets and amounts of room."""
    draw, total, preempted, shared = random.Random(7), 0, 0, 0
    for turn, name in enumerate([*MIXERS, "experts"]):
        page = draw.choice((2, 4, 5, 16))
        limits = Limits(tokens=draw.choice((48, 96)), sequences=8, budget=draw.choice((9, 17, 40)), page=page, slack=0)
        module = model(FULL, feed=EXPERTS) if name == "experts" else model(*MIXERS[name])
        sequences = law(module, requests(84, turn), turn, limits)
        total += 84
        preempted += sum(one.preemptions for one in sequences)
        shared += sum(one.shared > 0 for one in sequences)
    assert total >= 1000 and preempted > 50 and shared > 100


def test_the_next_token_is_of_the_new_weights():
    """After an optimiser's step in the middle: the rest is what the new weights say behind the same text."""
    module = model()
    engine = Engine(module, limits=LIMITS, deterministic=True)
    one = engine.submit(Request(prompt=(1, 2, 3, 4, 5, 6, 7, 8, 9), decoding=Decoding(max_tokens=12)))
    for _ in range(5):
        engine.step()
    begun = one.answer
    module.train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.5)
    logits_NV, _ = module(torch.tensor(one.tokens), Context.of((len(one.tokens),)))
    logits_NV.square().mean().backward()
    optimiser.step()
    while not engine.idle:
        engine.step()
        engine.check()
    assert module.training and one.answer[:5] == begun and len(begun) == 5
    rest = Request(prompt=(*one.request.prompt, *begun), decoding=Decoding(max_tokens=7))
    assert one.answer[5:] == alone(engine, Sequence(rest, 0, 0, limit=0, due=0))
    old = Engine(model(), limits=LIMITS, deterministic=True).answer([one.request])[0]
    assert old.answer != one.answer, "the step changed nothing: the test shows nothing"


def test_a_text_that_begins_is_read_by_the_weights_of_now():  # packed ones: looked at in turn while it goes on
    module, other = decoder("llama"), decoder("llama", seed=3)
    request = Request(prompt=(1, 2, 3, 4, 5, 6, 7, 8, 9), decoding=Decoding(max_tokens=1))
    engine, told = Engine(module, limits=LIMITS, forms=NAMED["exact"]), []
    pairs = [pair for pair in zip(module.modules(), other.modules(), strict=True) if isinstance(pair[0], Packed)]
    for one, theirs in pairs:
        one.blocks = theirs.blocks
        engine.submit(request)
        told.append(engine.step()[0].logprob)
        alone = Engine(module, limits=LIMITS, forms=NAMED["exact"])
        alone.submit(request)
        assert told[-1] == alone.step()[0].logprob
    assert len(set(told)) == len(pairs) > 6


def test_a_text_that_waited_is_read_by_the_weights_of_now():
    limits, forms = Limits(tokens=96, sequences=1, budget=13, page=4, slack=0), NAMED["kernels"]
    waits = Request(prompt=(1, 2, 3, 4, 5, 6, 7, 8, 9), decoding=Decoding(max_tokens=1))
    for number in range(15):
        module, other = decoder("llama"), decoder("llama", seed=3)
        pairs = [pair for pair in zip(module.modules(), other.modules(), strict=True) if isinstance(pair[0], Packed)]
        engine = Engine(module, limits=limits, forms=forms)
        engine.submit(Request(prompt=(9, 8, 7), decoding=Decoding(max_tokens=3)))
        waiting = engine.submit(waits)
        engine.step()
        pairs[number][0].blocks = pairs[number][1].blocks
        told = [written.logprob for _ in range(4) for written in engine.step() if written.sequence is waiting]
        alone = Engine(module, limits=limits, forms=forms)
        alone.submit(waits)
        assert told == [alone.step()[0].logprob], number


def test_what_the_old_weights_read_is_not_shared():
    module = model()
    engine = Engine(module, limits=LIMITS)
    request = Request(prompt=tuple(range(12)), decoding=Decoding(max_tokens=1))
    first, second = (engine.answer([request])[0] for _ in range(2))
    assert (first.shared, second.shared) == (0, 8)
    with torch.no_grad():
        module.embedding.weight.mul_(1.5)
    assert engine.answer([request])[0].shared == 0
    assert engine.answer([request])[0].shared == 8
    module.embedding.weight.data.mul_(1.5)  # torch does not count this
    engine.refresh()
    assert engine.answer([request])[0].shared == 0


def test_samples_of_one_prompt_are_those_of_their_seeds():
    engine = Engine(model(), limits=LIMITS, deterministic=True)
    told = Decoding(max_tokens=8, temperature=1.5, seed=3)
    several = engine.answer([Request(prompt=tuple(range(9)), decoding=told, samples=3)])[0].siblings
    assert len({one.answer for one in several}) == 3
    assert several[0].answer == engine.answer([Request(prompt=tuple(range(9)), decoding=told)])[0].answer
    assert [one.answer for one in several] == [alone(engine, one) for one in several]


def test_a_step_tells_each_token_with_its_logprob():
    module = model()
    engine = Engine(module, limits=LIMITS)
    one = engine.submit(Request(prompt=(1, 2, 3), decoding=Decoding(max_tokens=4), ends=frozenset()))
    written = []
    while not engine.idle:
        written += engine.step()
    assert tuple(each.token for each in written) == one.answer and one.reason == written[-1].reason == "length"
    ids = torch.tensor(one.tokens[:-1])
    logits_NV, _ = module(ids, Context.of((len(ids),)))
    logprobs = logits_NV.detach().log_softmax(-1)[2:].gather(1, torch.tensor(one.answer)[:, None])[:, 0]
    # Two orders of summation in float32, through four sublayers.
    assert torch.allclose(torch.tensor([each.logprob for each in written]), logprobs, atol=1e-4)


def test_logits_that_are_no_numbers_end_their_own_answer_only():
    module = model()
    with torch.no_grad():
        module.embedding.weight[5] = float("nan")
    module.head = nn.Linear(DIM, VOCAB)  # untied: only who reads token 5 meets it
    module.head.forward = lambda x_ND, context: x_ND @ torch.ones(DIM, VOCAB)  # type: ignore[method-assign]
    engine = Engine(module, limits=LIMITS)
    bad = engine.submit(Request(prompt=(1, 5), decoding=Decoding(max_tokens=3)))
    good = engine.submit(Request(prompt=(1, 2, 3), decoding=Decoding(max_tokens=3)))
    while not engine.idle:
        engine.step()
        engine.check()
    assert (bad.reason, bad.answer) == ("failed", ()) and (good.reason, len(good.answer)) == ("length", 3)


@pytest.mark.parametrize("name", ["full", "a state"])
def test_a_pass_that_is_interrupted_loses_nothing(name, monkeypatch):
    """Behind the last block, where caches and states are those of after the pass, and nothing is chosen yet."""
    engine = Engine(model(*MIXERS[name]), limits=LIMITS, deterministic=True)
    sequences = [engine.submit(one) for one in requests(4, 5)]
    engine.step()
    hidden = DecoderModel.hidden

    def interrupted(*told: Any) -> None:
        hidden(*told)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(DecoderModel, "hidden", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.step()
    engine.check()
    while not engine.idle:
        engine.step()
        engine.check()
    assert all(one.answer == alone(engine, one) for one in sequences)


def test_a_cancelled_request_frees_its_pages_at_once():
    engine = Engine(model(), limits=LIMITS)
    one = engine.submit(Request(prompt=tuple(range(20)), decoding=Decoding(max_tokens=20), samples=2))
    engine.step()
    engine.step()
    engine.cancel(one)
    assert engine.idle and all(pool.held == 0 for pool in engine.scheduler.tables.pools)
    assert [each.reason for each in one.siblings] == ["cancelled"] * 2


def test_a_token_outside_the_vocabulary_is_refused():
    with pytest.raises(BadInput, match="outside the vocabulary"):
        Engine(model(), limits=LIMITS).submit(Request(prompt=(VOCAB,)))


def test_without_rounding_texts_part_only_where_two_tokens_are_nearly_as_likely():
    """The fast path: where a text parts from the one alone, the best token led by less than 1e-3."""
    module = model()
    engine = Engine(module, limits=LIMITS)
    greedy = [replace(one, decoding=Decoding(max_tokens=10), samples=1) for one in requests(12, 4)]
    for one in together(engine, greedy, random.Random(4)):
        expected = alone(engine, one)
        place = parted(expected, one.answer)
        if place is not None:
            ids = torch.tensor([*one.request.prompt, *expected[:place]])
            assert lead(module(ids, Context.of((len(ids),)))[0][-1].detach(), one.answer[place]) < 1e-3
