from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.infer.answer import StopText
from cutaway.infer.ask import Ask
from cutaway.infer.decoding import Decoding
from cutaway.infer.writing import Answers, Writing

from .spoken import END, ids, tokenizer


@settings(max_examples=60)
@given(
    tokens=st.lists(st.one_of(st.sampled_from([*ids("停止ab"), END]), st.integers(0, 255)), max_size=30),
    stops=st.lists(st.text("ab停止", min_size=1, max_size=3), max_size=2),
)
def test_text_token_by_token_is_that_of_all_tokens_up_to_a_stop(tokens, stops):
    writing, shown = Writing(tokenizer(), tuple(stops)), ""
    for token in tokens:
        shown += writing.take(token)
        if writing.stopped:
            break
    shown += writing.end()
    whole = tokenizer().decode(tokens)
    places = [whole.find(stop) for stop in stops if stop in whole]
    assert writing.stopped == bool(places) and not any(stop in shown for stop in stops)
    assert whole.startswith(shown)
    if not writing.stopped:  # half a character at the very end is not shown
        assert not whole[len(shown) :].strip("\ufffd")


def test_a_stop_that_ends_with_what_was_held_is_found_at_the_end():
    assert StopText(("ab",)).push("a") == ""
    writing = Writing(tokenizer(), ("止",))
    assert [writing.take(token) for token in ids("停止")] == ["", "", "停", "", "", ""] and writing.stopped


def drawn(logprobs: list[list[float]], samples: int) -> list[tuple[int, int | None]]:
    """What is told where each answer's tokens have these logprobs, as (index, token)."""
    ask = Ask(prompt=(1,), decoding=Decoding(), samples=samples, best_of=len(logprobs))
    answers, events = Answers(ask, tokenizer(), frozenset({END})), []
    for place in range(max(map(len, logprobs))):
        for index, row in enumerate(logprobs):
            if place < len(row):
                events += answers.token(index, index, row[place], ())
                if place == len(row) - 1:
                    events += answers.end(index, "length")
    assert not answers.open and not answers.end(0, "cancelled"), "an answer ends once"
    return [(event.index, event.token) for event in events]


def test_the_best_are_told_at_the_end_by_their_mean():
    assert drawn([[-1.0, -3.0], [-1.5], [-9.0, -0.1, -0.1]], 2) == [(0, 1), (0, None), (1, 0), (1, 0), (1, None)]


def test_as_many_as_are_drawn_are_told_as_they_come():
    assert drawn([[-1.0, -1.0], [-2.0]], 2) == [(0, 0), (1, 1), (1, None), (0, 0), (0, None)]
    assert drawn([[-1.0]], 1) == [(0, 0), (0, None)]
