"""Each rule does what transformers' processor of the same name does, and no more."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.generation.logits_process import (
    ForcedEOSTokenLogitsProcessor,
    MinNewTokensLengthLogitsProcessor,
    NoBadWordsLogitsProcessor,
    NoRepeatNGramLogitsProcessor,
    SequenceBiasLogitsProcessor,
)

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Stuck
from cutaway.infer.rules import closing, completing, counted, only, possible, ruled, without

VOCAB, END = 8, 7
TEXTS = st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=12)


def logits(seed: int = 0) -> torch.Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(seed))


def ours(ids, prompt=1, ends=(END,), **options) -> torch.Tensor:
    return ruled(logits(), Decoding(**options), ids, prompt, ends)


def theirs(processor, ids) -> torch.Tensor:
    return processor(torch.tensor([ids]), logits()[None].clone())[0]


@settings(max_examples=80, deadline=None)
@given(ids=TEXTS, n=st.integers(1, 4))
def test_no_ngram_comes_twice(ids, n):
    # With n = 1 transformers bans all tokens of the text, as do we; it does not ban before the text has n - 1 tokens.
    expected = theirs(NoRepeatNGramLogitsProcessor(n), ids)
    assert torch.equal(ours(ids, no_repeat_ngram=n), expected)
    text = list(ids)
    for _ in range(5):  # and nobody who follows the rule ever repeats one
        allowed = set(range(VOCAB)) - closing(text, n)
        if not allowed:
            break
        text.append(min(allowed))
    grams = [tuple(text[at : at + n]) for at in range(len(ids) - n + 1, len(text) - n + 1) if at >= 0]
    old = {tuple(ids[at : at + n]) for at in range(len(ids) - n + 1)}
    assert len(set(grams)) == len(grams) and not old & set(grams)


@settings(max_examples=80, deadline=None)
@given(ids=TEXTS, banned=st.lists(st.lists(st.integers(0, VOCAB - 1), min_size=1, max_size=3), min_size=1, max_size=4))
def test_banned_sequences_are_not_completed(ids, banned):
    expected = theirs(NoBadWordsLogitsProcessor(banned, eos_token_id=None), ids)
    # transformers looks for the beginning of a longer sequence only in texts that are longer than it
    if all(len(sequence) <= len(ids) for sequence in banned):
        assert torch.equal(ours(ids, banned=banned), expected)
    assert completing(ids, [[*ids, 3]]) == {3} and completing(ids[1:], [[*ids, 3]]) == set()


@pytest.mark.parametrize("written", [0, 2, 3, 4])
def test_no_end_before_the_least_length(written):
    ids = [1, 2, *range(written)]
    expected = theirs(MinNewTokensLengthLogitsProcessor(2, 3, END), ids)
    assert torch.equal(ours(ids, prompt=2, min_tokens=3), expected)


@pytest.mark.parametrize("written", [0, 3, 4])
def test_the_last_token_is_an_end_where_it_is_forced(written):
    made = ours([1, 2, *range(written)], prompt=2, max_tokens=5, end_forced=True)
    expected = theirs(ForcedEOSTokenLogitsProcessor(2 + 5, END), [1, 2, *range(written)])
    assert torch.equal(made.softmax(0), expected.softmax(0))
    assert torch.equal(ours([1], ends=(), max_tokens=1, end_forced=True), logits())


def test_a_bias_is_added():
    bias = {3: 2.5, 5: -100.0}
    expected = theirs(SequenceBiasLogitsProcessor([[[id], amount] for id, amount in bias.items()]), [1, 2])
    torch.testing.assert_close(ours([1, 2], logit_bias=bias), expected)
    assert torch.equal(ours([1, 2], logit_bias={VOCAB: 1.0}), logits())


def test_presence_and_frequency_count_what_was_written_alone():
    made = ours([4, 4, 2, 2, 5], prompt=2, presence_penalty=0.5, frequency_penalty=0.25)
    expected = logits()
    expected[2] -= 0.5 + 2 * 0.25
    expected[5] -= 0.5 + 0.25
    torch.testing.assert_close(made, expected)
    assert counted(expected, [], 1.0, 1.0) is expected


def test_an_answer_begins_as_it_is_forced_to():
    for written, forced in ((0, 6), (1, 2)):
        made = ours([1, *[6][:written]], forced=(6, 2), min_tokens=4, banned=((6,), (2,)))
        assert made.softmax(0)[forced] == 1.0
    assert torch.equal(ours([1, 6, 2], forced=(6, 2)), logits())


def test_nothing_that_was_given_is_changed():
    given_V = logits()
    told = Decoding(
        logit_bias={1: 1.0},
        presence_penalty=1.0,
        no_repeat_ngram=1,
        banned=(3,),
        min_tokens=5,
        forced=(4,),
        max_tokens=9,
    )
    ruled(given_V, told, [1, 2, 3], 1, (END,))
    without(given_V, [2])
    only(given_V, [2])
    assert torch.equal(given_V, logits())
    assert ruled(given_V, Decoding(), [1], 1, (END,)) is given_V


def test_rules_that_leave_no_token_are_told():
    few, all_ids = Decoding(banned=(3,)), Decoding(banned=tuple(range(len(logits()))))
    assert torch.equal(possible(ours([1], banned=(3,)), few), ours([1], banned=(3,)))
    with pytest.raises(Stuck):
        possible(ours([1], banned=all_ids.banned), all_ids)
