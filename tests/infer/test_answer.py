from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cutaway.infer.answer import StopText


@given(
    text=st.text("ab停止", max_size=30),
    stops=st.lists(st.text("ab停止", min_size=1, max_size=4), max_size=3),
    cut=st.data(),
)
def test_text_in_any_pieces_ends_before_the_first_stop(text, stops, cut):
    stop = StopText(tuple(stops))
    shown, rest = "", text
    while rest and not stop.hit:
        size = cut.draw(st.integers(1, len(rest)))
        shown += stop.push(rest[:size])
        rest = rest[size:]
    shown += stop.flush()
    places = [text.find(s) for s in stops if s in text]
    # Where the pieces end decides which of two overlapping stops is met first, but never lets one through.
    assert text.startswith(shown)
    assert all(s not in shown for s in stops)
    assert stop.hit == bool(places)
    if len(stops) == 1:
        assert shown == text.split(stops[0])[0]


def test_nothing_is_held_back_without_need():
    stop = StopText(("<end>",))
    assert stop.push("hello") == "hello"
    assert stop.push(" <e") == " "
    assert stop.push("x") == "<ex"
