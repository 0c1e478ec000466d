"""Whoever leaves early: the cache stays the full model's, and the token is the one that the exit's head says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.infer.early_exit import Confident
from cutaway.infer.language import Language
from cutaway.infer.proposers import PromptLookup
from cutaway.nn.context import Context

from .test_engine import FULL, MIXERS, VOCAB, model

TEXT = [3, 1, 4, 1, 5, 9, 2, 6]


def lens(language: Language, ids: list[int]) -> list[Tensor]:
    """What the head says behind each block, at the last of the ids, without a cache."""
    context = Context.of((len(ids),), want=frozenset({"residual"}))
    with torch.no_grad():
        _, report = language.module.hidden(torch.tensor(ids), context)
        blocks = range(len(language.spec.blocks))
        return [language.module.logits(report[f"blocks.{block}.residual_ND"], context)[-1] for block in blocks]


def by_hand(language: Language, exits: Confident, count: int) -> tuple[list[int], list[int]]:
    """Greedy, by full passes over the whole text: tokens, and behind how many blocks each was chosen."""
    ids, left = list(TEXT), []
    for step in range(count):
        said = lens(language, ids)
        sure = [one for one in exits.after if float(said[one - 1].softmax(-1).max()) >= exits.threshold]
        left.append(sure[0] if sure and step else len(said))  # the prompt goes through all blocks
        ids.append(int(said[left[-1] - 1].argmax()))
    return ids[len(TEXT) :], left[1:]


# A state by itself cannot be read without a cache; dynamic rope fixes its base at the prompt's length.
@pytest.mark.parametrize("mixer", [name for name in MIXERS if name not in ("a state", "only a state", "dynamic rope")])
def test_tokens_are_those_of_the_exits_over_a_whole_cache(mixer):
    """Blocks that a token skipped see it later: all logits are as if it had never left."""
    language = Language(model(*MIXERS[mixer], *MIXERS[mixer]).double())
    blocks = len(language.spec.blocks)
    for threshold in (0.25, 0.3, 0.4, 0.5, 0.6):  # how sure random weights are is luck
        exits = Confident(after=(1, blocks // 2, blocks - 1), threshold=threshold)
        tokens, left = by_hand(language, exits, 10)
        if len(set(left)) > 1:
            break
    assert len(set(left)) > 1, "all left at one place: nobody had to wait for another"
    held = language.continuation(exits)
    answer = language.generate(TEXT, held=held, max_tokens=10)
    assert list(answer.tokens) == tokens and held.left == left
    held._settle()
    held.cache.check()


def test_who_never_leaves_is_the_full_model():
    language = Language(model(FULL, FULL).double())
    held = language.continuation(Confident(after=(1, 2), threshold=1.1))
    assert language.generate(TEXT, held=held, max_tokens=12).tokens == language.generate(TEXT, max_tokens=12).tokens
    assert held.depth == 4.0


def test_who_always_leaves_never_enters_the_later_blocks():
    language = Language(model(FULL, FULL).double())
    held = language.continuation(Confident(after=(2,), threshold=0.0))
    language.generate(TEXT, held=held, max_tokens=12)
    assert held.depth == 2.0 and len(held.left) == 11
    assert [held._waiting[2].shape[0], held.cache.lengths[0]] == [11, len(TEXT) + 11]


def test_another_prompt_and_guesses_find_a_whole_cache():
    language = Language(model(FULL, FULL).double())
    held = language.continuation(Confident(after=(2,), threshold=0.0))
    first = language.generate(TEXT, held=held, max_tokens=6)
    text = [*TEXT, *first.tokens[:3], VOCAB - 1]
    again = held.rewind(text, room=40)
    assert again == text[-1:] and not held._waiting
    held.cache.check()
    expected = language.continuation()
    full = expected.feed(expected.rewind([*text, 7, 8], room=40))
    with torch.no_grad():
        held.feed([*again, 7])
        found = held.attempt([8], [2])
    assert torch.allclose(found[0], full, atol=1e-9)  # float64, passes of other sizes


def test_guesses_are_proven_by_all_blocks():
    language = Language(model(FULL, FULL).double())
    exits = Confident(after=(1,), threshold=1.1)
    guess = PromptLookup(shortest=1, adaptive=False)
    answer = language.generate(TEXT, held=language.continuation(exits), max_tokens=20, proposer=guess)
    assert answer.tokens == language.generate(TEXT, max_tokens=20).tokens


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"after": ()}, "after"),
        ({"after": (0,)}, "after"),
        ({"after": (2, 2)}, "after"),
        ({"after": (3, 1)}, "after"),
        ({"after": (1,), "threshold": -0.1}, "threshold"),
        ({"after": (1,), "threshold": float("nan")}, "threshold"),
    ],
)
def test_impossible_ones_are_refused(told, field):
    with pytest.raises(BadInput, match=field):
        Confident(**told)


def test_an_exit_behind_the_last_block_is_refused():
    with pytest.raises(BadInput, match="before the last"):
        Language(model()).continuation(Confident(after=(2,)))
