"""The engine's passes on kernels: each sequence as alone on the contiguous cache, whoever else is in the pass."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.infer.quantising import decoder
from tests.infer.test_engine import requests, together
from tests.infer.test_kernel_steps import Own

from cutaway.infer import kernel_pages, kernel_sizes, kernel_steps
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.guessing import Guessing
from cutaway.infer.kernel_steps import KernelSteps
from cutaway.infer.language import Language
from cutaway.infer.proposers import PromptLookup
from cutaway.infer.request import Request, Sequence
from cutaway.infer.sampler import choose
from cutaway.infer.scheduler import Limits
from cutaway.infer.shortlist import Shortlist
from cutaway.models.decoder import DecoderModel
from cutaway.nn.context import Context
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED, Forms

EXACT, KERNELS, INT8 = NAMED["exact"], NAMED["kernels"], NAMED["kernels-int8"]
LIMITS = Limits(tokens=96, sequences=5, budget=13, page=4, slack=0)
WIDE = Limits(tokens=4096, sequences=40, budget=2048, page=16)

pytestmark = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def continuation(engine: Engine, forms: Forms) -> Continuation:
    """One text alone, on kernels whose sums are of one order."""
    module, told = engine.runner.module, {"dtype": torch.float32, "device": torch.device("cpu")}
    held = Continuation(module, engine.runner.forms, kept=engine.runner.kept, **told)
    held.steps = KernelSteps.of(module, forms, steady=True)
    assert held.steps is not None
    return held


def told_alone(engine: Engine, sequence: Sequence, forms: Forms) -> list[tuple[int, float]]:
    """The answer of a greedy or seeded request, a token at a time, each with its logprob."""
    request, told, held = sequence.request, [], continuation(engine, forms)
    draw = Sequence(request, 0, sequence.index, limit=0, due=0).draw
    with torch.inference_mode(), engine.runner.rounded():
        ids = list(request.prompt)
        logits_V = held.feed(held.rewind(ids, room=64))
        for _ in range(request.decoding.max_tokens):
            ids.append(choose(logits_V, request.decoding, draw, ids))
            told.append((ids[-1], Shortlist(logits_V[None], [None]).logprobs([(0, ids[-1])])[0]))
            if ids[-1] in request.ends:
                break
            logits_V = held.feed(ids[-1:])
    return told


def law(
    module: DecoderModel, forms: Forms, seed: int, limits: Limits = LIMITS, count: int = 8, **told: Any
) -> list[Sequence]:
    """Each answer as alone, and its logprobs bit for bit; once in a hundred not, where torch's rounding has a part."""
    engine = Engine(module, limits=limits, forms=forms, deterministic=True, **told)
    assert engine.runner.steps is not None
    found = together(engine, requests(count, seed, most=30 if limits is LIMITS else 8), random.Random(seed))
    pairs = []
    for one, answer in found.items():
        expected = told_alone(engine, one, forms)
        assert [token for token, _ in answer] == [token for token, _ in expected]
        pairs += zip(answer, expected, strict=True)
    with engine.runner.steps.shelf.lent(module, 1) as plan:
        least = 0.99 if plan.wants_torch else 1.0
    assert sum(ours == theirs for ours, theirs in pairs) >= least * len(pairs)
    return list(found)


@pytest.mark.parametrize("forms", [KERNELS, INT8], ids=["exact", "int8"])
@pytest.mark.parametrize("family", ["llama", "gemma", "mpt", "post", "sinks"])
def test_requests_together_are_each_as_alone_to_the_last_bit(family, forms):
    sequences = law(decoder(family), forms, 1)
    assert any(one.shared for one in sequences), "nothing was shared"
    assert any(len(one.request.prompt) > LIMITS.budget for one in sequences), "no prompt came in parts"


@pytest.mark.parametrize("family", ["gpt2", "latent"])
def test_so_they_are_where_torch_runs_a_part(family):
    law(decoder(family), KERNELS, 2)


@pytest.mark.parametrize("family", ["gemma", "sinks"])
def test_those_who_were_preempted_go_on_as_if_nothing_had_been(family):
    limits = Limits(tokens=24, sequences=6, budget=13, page=4, slack=0)
    sequences = law(decoder(family), KERNELS, 3, limits)
    assert any(one.preemptions for one in sequences), "nobody was preempted"


@pytest.mark.proof
def test_hundreds_of_requests_together_are_each_as_alone():
    """Over families, kept dtypes, page sizes, budgets and amounts of room."""
    draw, preempted, shared = random.Random(7), 0, 0
    for turn in range(14):
        family = ("llama", "gemma", "qwen", "mpt", "turned", "latent", "sinks")[turn % 7]
        sizes = {"tokens": draw.choice((48, 96)), "budget": draw.choice((9, 17, 80)), "page": draw.choice((2, 5, 16))}
        limits = Limits(sequences=8, slack=0, **sizes)
        kept = draw.choice((None, torch.float32, torch.bfloat16))
        sequences = law(decoder(family), draw.choice((KERNELS, INT8)), turn, limits, 40, kept=kept)
        preempted += sum(one.preemptions for one in sequences)
        shared += sum(one.shared > 0 for one in sequences)
    assert preempted > 20 and shared > 40


def test_parts_that_are_replaced_while_an_engine_serves():
    """Plans of the new parts tell of fewer layers' caches: pages are told in their order from then on."""
    module = decoder("llama")
    engine, mixer = Engine(module, limits=WIDE, forms=KERNELS), module.blocks[0].mixer
    usual, own = mixer.out, Own(mixer.out.packed)
    first = engine.submit(Request(prompt=(5, 17, 3, 80), decoding=Decoding(max_tokens=6)))
    (expected,) = Engine(module, limits=WIDE, forms=KERNELS).answer([first.request])
    assert engine.runner.steps is not None
    for out in (usual, own, usual):
        mixer.out = out
        Engine(module, limits=WIDE, forms=KERNELS).answer([Request(prompt=(1,), decoding=Decoding(max_tokens=1))])
        engine.step()
        engine.step()
    assert first.tokens == expected.tokens and engine.idle


@pytest.mark.parametrize("forms", [KERNELS, INT8], ids=["exact", "int8"])
def test_a_rows_logits_are_those_alone_whatever_comes_with_it(forms):
    """1 to 33 sequences that step together, behind prompts of all lengths: the logits of each, bit for bit."""
    module = decoder("llama")
    prompts = [tuple((7 * i + j) % 96 for j in range(1 + 3 * i)) for i in range(33)]
    alone = {}
    for count in (1, 2, 3, 5, 6, 12, 17, 33):
        engine = Engine(module, limits=WIDE, forms=forms, deterministic=True)
        sequences = [engine.submit(Request(prompt=one, decoding=Decoding(max_tokens=3))) for one in prompts[:count]]
        for turn in range(3):
            plan = engine.scheduler.plan()
            logits_XV = engine.runner.run(plan)
            assert len(logits_XV) == count
            for part, logits_V in zip(plan.parts, logits_XV, strict=True):
                key = sequences.index(part.sequence), turn
                if key not in alone:  # so the first ones are those of one, two or three together
                    held = continuation(engine, forms)
                    ids = [*part.sequence.tokens]
                    with engine.runner.rounded():
                        alone[key] = held.feed(held.rewind(ids, room=64))
                assert torch.equal(logits_V, alone[key]), (count, key)
            engine._choose(plan, logits_XV)


def test_a_prompt_in_chunks_is_the_prompt_at_once():
    """Budgets from 3 tokens to the whole: the last logits, bit for bit; so it is over 300 tokens and several spans."""
    module = decoder("llama")
    prompt, found = tuple((5 * i) % 96 for i in range(120)), []
    for budget in (3, 7, 16, 50, 64, 119, 512):
        limits = Limits(tokens=256, sequences=2, budget=budget)
        engine = Engine(module, limits=limits, forms=KERNELS, deterministic=True)
        engine.submit(Request(prompt=prompt, decoding=Decoding(max_tokens=1)))
        while True:
            plan = engine.scheduler.plan()
            logits_XV = engine.runner.run(plan)
            if len(logits_XV):
                break
            engine._choose(plan, logits_XV)
            engine.scheduler.commit(plan)
        found.append(logits_XV)
    assert all(torch.equal(one, found[0]) for one in found)


def test_passes_are_what_torch_computes(monkeypatch):
    """In float32 and without the rows that make orders equal, logits are torch's but for the order of sums."""
    for family in ("llama", "gemma", "qwen", "gpt2", "experts", "latent", "sinks"):
        module, told = decoder(family), []
        for forms in (EXACT, KERNELS):
            engine = Engine(module, limits=LIMITS, forms=forms, kept=torch.float32)
            greedy = [replace(one, decoding=Decoding(max_tokens=6), samples=1) for one in requests(6, 4)]
            told.append(list(together(engine, greedy, random.Random(4)).values()))
        for right, found in zip(*told, strict=True):
            assert [token for token, _ in right] == [token for token, _ in found], family
            logprobs = [torch.tensor([logprob for _, logprob in one]) for one in (right, found)]
            torch.testing.assert_close(*logprobs, rtol=1e-4, atol=1e-4)


def test_guesses_and_scored_prompts_are_rows_like_others():
    module = decoder("llama")
    prompt = (1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 1, 2, 3)
    asked = [
        Request(prompt=prompt, decoding=Decoding(max_tokens=20)),
        Request(prompt=prompt[3:], decoding=Decoding(max_tokens=9), prompt_logprobs=True, logprobs=2),
    ]
    told = []
    for guessing in (None, Guessing(PromptLookup(), Language(module, forms=KERNELS))):
        engine = Engine(module, limits=LIMITS, forms=KERNELS, deterministic=True, guessing=guessing)
        answers = engine.answer(asked)
        told.append([(one.answer, one.scores) for one in answers])
        assert guessing is None or engine.scheduler.counts.proposed
    assert told[0] == told[1]
    plain = Engine(module, limits=LIMITS, forms=EXACT, deterministic=True, kept=torch.float16).answer(asked)[1]
    ours = [logprob for _, logprob, _ in told[0][1][1][1:]]
    # Keys and values in fp16 are those of other sums: a last bit of theirs is 1/2048.
    right = [logprob for _, logprob, _ in plain.scores[1:]]
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(right), rtol=0, atol=0.02)


def test_the_next_token_is_of_the_new_weights():
    """A norm that is written to, a new tensor in an old one's place, other blocks: each behind the same text."""
    module = decoder("llama")
    engine = Engine(module, limits=LIMITS, forms=KERNELS, deterministic=True)
    request = Request(prompt=tuple(range(9)), decoding=Decoding(max_tokens=4))
    told = [told_alone(engine, engine.answer([request])[0], KERNELS)]
    for write in (
        lambda: module.norm.weight.neg_(),
        lambda: setattr(module.blocks[0].feed_norms.before, "weight", torch.nn.Parameter(torch.randn(64))),
        lambda: module.load_state_dict(decoder("llama", seed=5).state_dict()),
    ):
        with torch.no_grad():
            write()
        one = engine.submit(request)
        found = [(each.token, each.logprob) for _ in range(4) for each in engine.step()]
        told.append(told_alone(engine, one, KERNELS))
        assert found == told[-1] and found not in told[:-1]


@pytest.mark.parametrize("family", ["gemma", "sinks"])
def test_what_is_no_number_in_others_pages_reaches_nobody(family):
    """Pages that a window has left behind are another's, who may write NaN there: they are not read."""
    engine = Engine(decoder(family), limits=LIMITS, forms=KERNELS)
    request, tables = Request(prompt=(1, 2, 3, 9), decoding=Decoding(max_tokens=25)), engine.scheduler.tables
    expected, gone = engine.answer([request])[0].answer, 0
    engine.refresh()
    one = engine.submit(request)
    while not engine.idle:
        engine.step()
        for (layer, name), pages in engine.runner.cache.pages.items():
            pool = engine.runner.cache.pool[layer, name]
            held = [] if engine.idle else tables.rows(one.number, pool)
            gone += held.count(-1)
            others = sorted(set(range(len(pages))) - set(held))
            pages[others] = float("nan")
    assert gone and one.answer == expected


def test_more_sequences_than_rows_of_tables_come_and_go():
    module = decoder("llama")
    engine = Engine(module, limits=Limits(tokens=64, sequences=2, budget=9, page=4), forms=KERNELS)
    asked = [Request(prompt=(i, i + 1, 3), decoding=Decoding(max_tokens=3)) for i in range(9)]
    together_ = [one.answer for one in engine.answer(asked)]
    assert together_ == [Engine(module, forms=KERNELS).answer([one])[0].answer for one in asked]


def test_what_pages_hold_and_when_kernels_run():
    module = decoder("llama")
    sizes = {forms: Engine(module, limits=LIMITS, forms=NAMED[forms]).runner for forms in ("exact", "kernels")}
    assert sizes["exact"].steps is None and sizes["exact"].kept is None
    assert sizes["kernels"].steps is not None and sizes["kernels"].kept == torch.float16
    assert 2 * sizes["kernels"].cache.bytes == sizes["exact"].cache.bytes
    # An expert's rows are as many as chose it, and their sums of an order that shows it: torch's are rounded.
    experts = [Engine(decoder("experts"), forms=KERNELS, deterministic=steady).runner.steps for steady in (False, True)]
    assert experts[0] is not None and experts[1] is None
    own = replace(KERNELS, gate=NAMED["readable"].gate)
    assert Engine(module, forms=own).runner.steps is None
    assert Engine(decoder("llama").double(), forms=KERNELS).runner.steps is None


def test_a_pass_is_cut_in_pieces():
    assert kernel_sizes.MOST == 64 and kernel_pages.MOST == kernel_steps.MOST == 64
    module = decoder("llama")
    engine = Engine(module, limits=WIDE, forms=KERNELS, kept=torch.float32)
    prompts = [tuple((i + 5 * j) % 96 for j in range(60)) for i in range(5)]
    asked = [Request(prompt=prompt, decoding=Decoding(max_tokens=1)) for prompt in prompts]
    for request in asked:
        engine.submit(request)
    plan = engine.scheduler.plan()
    assert sum(part.count for part in plan.parts) > 4 * 64
    logits_XV = engine.runner.run(plan)
    expected = [module(torch.tensor(one.prompt), Context.of((60,), forms=EXACT))[0][-1] for one in asked]
    torch.testing.assert_close(logits_XV, torch.stack(expected), rtol=1e-4, atol=1e-4)
