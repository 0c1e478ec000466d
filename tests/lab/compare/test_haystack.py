from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.lab.compare import haystack
from cutaway.lab.compare.haystack import Question, Reader, questions, read
from cutaway.lab.compare.stretched import VARIANTS, Sizes, rebuilt, variant
from cutaway.nn.context import Context
from cutaway.nn.stream import Stream
from cutaway.text.bpe import BytePair
from cutaway.text.tokenizer import Tokenizer

SIZES = Sizes(trained=64, context=220, window=30, sinks=3)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return BytePair.train(["the pass key is the key of the pass " * 20], vocab=290).fast()


@pytest.fixture(autouse=True)
def narrow_passes(monkeypatch):
    monkeypatch.setattr(haystack, "ROWS", 26)  # so that a text takes many, of which none ends where another does


def text(passages: int, tokens: int, vocab: int = 290) -> Tensor:
    return torch.randint(vocab, (passages, tokens), generator=torch.Generator().manual_seed(2))


def module_of(spec, name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    far = replace(spec, vocab=290, blocks=(spec.blocks[2], spec.blocks[0]))
    module = far.build().double().eval()
    for weight in module.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    made = variant(far, name, SIZES)
    assert made is not None
    return rebuilt(module, made)


@pytest.mark.parametrize("name", VARIANTS)
def test_losses_and_answers_are_those_of_whole_passes(spec, tokenizer, name):
    """One pass over each text alone, and a loop over its tokens; what was asked in between disturbs nothing."""
    module, ids_BT = module_of(spec, name), text(2, 220)
    asked = questions(tokenizer, 2, (150, 220), (0.0, 0.4, 1.0), seed=3)
    losses_BT, answers = read(Reader(module, passages=2, prompt=220), ids_BT, asked)
    assert losses_BT.shape == (2, 219)
    with torch.no_grad():
        for ids_T, losses_T in zip(ids_BT, losses_BT, strict=True):
            shares_TV = module(ids_T, Context.of((220,), prompts=(220,)))[0].softmax(-1)
            expected = [-shares_TV[place, ids_T[place + 1]].log() for place in range(219)]
            # Float64 in another order, but logits and losses in float32, which keeps seven digits.
            assert torch.allclose(losses_T.double(), torch.stack(expected), atol=1e-5)
        assert {(one.length, one.depth) for one, _, _ in answers} == {
            (n, d) for n in (150, 220) for d in (0.0, 0.4, 1.0)
        }
        for one, found, nats in answers:
            rows = [logits_of(module, one, ids_BT[at], at) for at in range(2)]
            right = [bool((row_QV.argmax(-1) == number(one, at)).all()) for at, row_QV in enumerate(rows)]
            wanted = [torch.nn.functional.cross_entropy(row_QV, number(one, at)) for at, row_QV in enumerate(rows)]
            assert found == sum(right) / 2
            assert nats == pytest.approx(float(sum(wanted)) / 2, abs=1e-5)  # as above


def number(one: Question, passage: int) -> Tensor:
    return one.asked_BQ[passage, -one.answer :]


def whole(one: Question, ids_T: Tensor, passage: int) -> Tensor:
    """The text of a question, written in one piece."""
    told_Q, asked_Q = one.told_BQ[passage], one.asked_BQ[passage]
    return torch.cat([ids_T[: one.place], told_Q, ids_T[one.place : one.body], asked_Q])


def logits_of(module: torch.nn.Module, one: Question, ids_T: Tensor, passage: int) -> Tensor:
    text_T = whole(one, ids_T, passage)
    assert len(text_T) == one.length
    context = Context.of((one.length,), prompts=(220,))
    return module(text_T, context)[0][-one.answer - 1 : -1]


class Finder(torch.nn.Module):
    """Says what followed the longest of the earlier places that end as the text does now: it finds whatever it still
    holds. `wrong`: what it says instead is one id further on."""

    def __init__(self, vocab: int, last: int | None = None, wrong: bool = False):
        super().__init__()
        self.spec = Streams(last)
        self.vocab, self.last, self.wrong = vocab, last, wrong
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def hidden(self, ids_N: Tensor, context: Context) -> tuple[Tensor, dict]:
        (seen_S1,), see = context.extend(window=self.last, ids=ids_N[:, None].float())
        said = []
        for rows, new in zip(seen_S1.split(see.keys), see.queries, strict=True):
            held = rows[:, 0].long().tolist()
            for end in range(len(held) - new + 1, len(held) + 1):
                start = 0 if self.last is None else max(0, end - self.last)
                said.append(self.following(held[start:end]))
        assert context.cache is not None
        context.cache.advance(context.lengths)
        return torch.nn.functional.one_hot(torch.tensor(said), self.vocab).float(), {}

    def following(self, held: list[int]) -> int:
        best, says = 0, 0
        for end in range(1, len(held)):
            alike = 0
            while alike < end and held[end - 1 - alike] == held[-1 - alike]:
                alike += 1
            if alike > best:
                best, says = alike, held[end]
        return (says + self.wrong) % self.vocab

    def logits(self, x_ND: Tensor, context: Context) -> Tensor:
        return 9.0 * x_ND


@dataclass(frozen=True)
class Streams:
    last: int | None

    def streams(self) -> tuple[tuple[Stream, ...], ...]:
        return ((Stream("ids", (1,), last=self.last),),)


def test_a_number_that_was_told_is_found_where_it_is_still_seen(tokenizer):
    """By a model made by hand that finds it, by one that sees the last 90 tokens alone, by one that says another."""
    ids_BT, asked = text(2, 150), questions(tokenizer, 2, (150,), (0.0, 0.5, 1.0), seed=1)

    def found(module: Finder) -> dict[tuple[int, float], float]:
        _, answers = read(Reader(module, passages=2, prompt=150), ids_BT, asked)  # type: ignore[arg-type]
        return {(one.length, one.depth): share for one, share, _ in answers}

    assert set(found(Finder(290)).values()) == {1.0}
    assert set(found(Finder(290, wrong=True)).values()) == {0.0}
    assert found(Finder(290, last=90)) == {(150, 0.0): 0.0, (150, 0.5): 1.0, (150, 1.0): 1.0}
    # Four digits of five are no number: here the last one asked for is another than was told.
    for place, one in enumerate(asked):
        other_BQ = one.asked_BQ.clone()
        other_BQ[:, -1] += 1
        asked[place] = replace(one, asked_BQ=other_BQ)
    assert set(found(Finder(290)).values()) == {0.0}


def test_numbers_differ_and_a_length_without_room_is_refused(tokenizer):
    asked = questions(tokenizer, 4, (150,), (0.1, 0.9), seed=0)
    numbers = {tuple(number(one, at).tolist()) for one in asked for at in range(4)}
    assert len(numbers) == 8
    for one in asked:
        assert one.place == round(one.depth * one.body)
        told = tokenizer.decode(one.told_BQ[0].tolist())
        said = tokenizer.decode(number(one, 0).tolist())
        assert said.isdecimal() and len(said) == 5 and told.count(f"<{said}>") == 2
    assert torch.equal(asked[0].told_BQ, questions(tokenizer, 4, (150,), (0.1, 0.9), seed=0)[0].told_BQ)
    with pytest.raises(BadInput, match="lengths: 40 tokens have no room"):
        questions(tokenizer, 1, (40,), (0.5,), seed=0)
