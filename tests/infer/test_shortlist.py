"""Draws from the likeliest few against the sampler with all logits: the same random numbers, the same tokens."""

from __future__ import annotations

import random

import pytest
import torch
from tests.infer.quantising import decoder

from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.longlist import Longlist
from cutaway.infer.sampler import choose
from cutaway.infer.shortlist import MOST, Shortlist, serves
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED

pytestmark = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")

DECODINGS = [
    Decoding(),
    Decoding(temperature=1.0),
    Decoding(temperature=0.7),
    Decoding(temperature=2.5),
    Decoding(temperature=1e-6),
    Decoding(temperature=0.8, top_k=5),
    Decoding(temperature=1.3, top_k=1000),
    Decoding(temperature=0.9, top_p=0.9),
    Decoding(temperature=0.6, top_p=0.5, top_k=50),
    Decoding(temperature=1.1, min_p=0.05),
    Decoding(temperature=1.0, min_p=0.1, top_p=0.95, top_k=300),
    Decoding(temperature=1.0, top_k=1),
]


@pytest.mark.parametrize("vocab", [7, 64, 1000, 9001])
def test_draws_are_the_samplers(vocab):
    """One row for each decoding, 40 times. A sum of float32 and one of float64 part at one draw in 100,000."""
    torch.manual_seed(vocab)
    rows_left = 0
    for seed in range(40):
        logits_XV = torch.randn(len(DECODINGS), vocab) * (1 + seed % 3)
        listed = Shortlist(logits_XV, DECODINGS)
        for row, decoding in enumerate(DECODINGS):
            draws = random.Random(seed), random.Random(seed)
            token = listed.token(row, draws[0])
            if token is None:
                rows_left += 1
                assert draws[0].getstate() == draws[1].getstate(), "a number was drawn for nothing"
                continue
            assert token == choose(logits_XV[row], decoding, draws[1]), (decoding, seed)
            assert draws[0].getstate() == draws[1].getstate()
    assert rows_left < 40 * 3, "the list served hardly anybody"


def test_what_the_list_does_not_hold_is_left_to_the_sampler():
    flat_XV = torch.zeros(1, 5000)
    for decoding in (Decoding(temperature=1.0, top_p=0.9), Decoding(temperature=1.0, min_p=0.5)):
        assert Shortlist(flat_XV, [decoding]).token(0, random.Random(0)) is None
    assert Shortlist(flat_XV, [None]).token(0, random.Random(0)) is None
    refused = {"repetition_penalty": 1.1, "typical_p": 0.9, "eta": 0.1, "epsilon": 0.1, "min_tokens": 3}
    assert not any(serves(Decoding(temperature=1.0, **{name: value})) for name, value in refused.items())
    assert not serves(Decoding(temperature=1.0, top_k=MOST + 1)) and all(map(serves, DECODINGS))


def test_ties_and_what_is_no_number():
    logits_XV = torch.zeros(4, 130)
    logits_XV[1, 7], logits_XV[2, 100], logits_XV[3, [40, 90]] = float("nan"), float("inf"), 2.0
    listed = Shortlist(logits_XV, [Decoding(), Decoding(temperature=1.0), Decoding(), Decoding()])
    assert listed.sound == [True, False, False, True]
    assert [listed.token(row, random.Random(0)) for row in range(4)] == [0, None, None, 40]
    every = [Shortlist(logits_XV[:1], [Decoding(temperature=1.0)]).token(0, random.Random(seed)) for seed in range(600)]
    assert len(set(every)) == 129 or len(set(every)) == 130  # a uniform draw reaches all


def test_both_lists_tell_the_same():
    torch.manual_seed(3)
    logits_XV = torch.randn(5, 300) * 4
    lists = [kind(logits_XV, [Decoding()] * 5) for kind in (Longlist, lambda *told: Shortlist(*told, least=4))]
    pairs = [(row, token) for row in range(5) for token in (0, 17, 299)]
    ours, theirs = (torch.tensor(one.logprobs(pairs)) for one in lists)
    # Two orders of a sum of 300 numbers in float32.
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for row in range(5):
        tops = [one.tops(row, 4) for one in lists]
        assert [token for token, _ in tops[0]] == [token for token, _ in tops[1]]
        assert lists[0].token(row, random.Random()) == lists[1].token(row, random.Random()) == tops[0][0][0]
        torch.testing.assert_close(*(torch.tensor([value for _, value in one]) for one in tops), rtol=0, atol=1e-5)
    assert lists[0].tops(0, 0) == lists[1].tops(0, 0) == ()


def test_a_language_draws_the_same_with_and_without(monkeypatch):
    language, texts = Language(decoder("llama"), forms=NAMED["kernels"]), []
    for told in ({}, {"temperature": 0.9, "seed": 3}, {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 4}):
        texts.append(language.generate([1, 2, 3], max_tokens=12, **told))
    with monkeypatch.context() as patch:
        patch.setattr("cutaway.infer.continuation.Continuation.shortlist", lambda *told: None)
        for text, told in zip(
            texts,
            ({}, {"temperature": 0.9, "seed": 3}, {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "seed": 4}),
            strict=True,
        ):
            plain = language.generate([1, 2, 3], max_tokens=12, **told)
            assert text.tokens == plain.tokens
            torch.testing.assert_close(torch.tensor(text.logprobs), torch.tensor(plain.logprobs), rtol=0, atol=1e-5)


def test_a_list_takes_the_room_of_one_that_is_done_with():
    """The same as in a room of its own, whatever was asked for before; a room of another shape is not taken."""
    warm, cut = Decoding(temperature=0.7), Decoding(temperature=1.3, top_k=5)
    last, asked = None, ((2, 500, warm), (2, 500, warm), (2, 500, cut), (3, 500, cut), (3, 90, Decoding()))
    for rows, vocab, decoding in asked * 2:
        logits_XV = torch.randn(rows, vocab) * 3
        own = Shortlist(logits_XV, (decoding,) * rows)
        told = [own.token(row, random.Random(row)) for row in range(rows)], own.tops(0, 1), own.sums
        last = Shortlist(logits_XV, (decoding,) * rows, before=last)
        again = [last.token(row, random.Random(row)) for row in range(rows)], last.tops(0, 1), last.sums
        assert again == told
    one = Shortlist(torch.randn(1, 64), (warm,))
    assert Shortlist(torch.randn(1, 64), (warm,), before=one)._room is one._room
    assert Shortlist(torch.randn(1, 64), (Decoding(),), before=one)._room is not one._room


def test_a_list_of_another_vocabulary_is_not_gone_on_with():
    """Whose cuts were told its own width."""
    told = [Decoding(temperature=1.0, top_p=0.999)]
    narrow, wide_XV = Shortlist(torch.zeros(1, 3), told), torch.zeros(1, 5000)
    for before in (None, narrow):
        assert Shortlist(wide_XV, told, before=before).token(0, random.Random(0)) is None
