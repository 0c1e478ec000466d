from __future__ import annotations

from cutaway.infer.decoding import Decoding
from cutaway.infer.request import Request, Sequence
from cutaway.infer.scheduler import Part
from cutaway.infer.stretches import cut, flat, whole


def part(tokens: int, start: int, **told) -> Part:
    request = Request(prompt=tuple(range(100, 100 + tokens)), decoding=Decoding(max_tokens=2))
    sequence = Sequence(request, tokens, 0, limit=200, due=0)
    return Part(sequence=sequence, start=start, count=tokens - start + len(told.get("guesses", ())), **told)


def test_parts_end_to_end():
    parts = [
        part(3, 2, samples=True),
        part(4, 3, samples=True, guesses=(7, 8)),
        part(5, 0, samples=False, scores=range(1, 3)),
    ]
    ids, positions, asked = flat(parts)
    assert ids == [102, 103, 7, 8, 100, 101, 102, 103, 104]
    assert positions == [2, 3, 4, 5, 0, 1, 2, 3, 4]
    assert asked == [0, 1, 2, 3, 5, 6]
    assert [(at, to) for _, at, to in whole(parts)] == [(2, 3), (3, 6), (0, 5)]


def test_pieces_are_whole_but_for_the_last():
    parts = [part(3, 2, samples=True), part(9, 0, samples=True), part(2, 0, samples=False)]
    pieces = [[(at, to) for _, at, to in piece] for piece in cut(parts, 4)]
    assert pieces == [[(2, 3), (0, 3)], [(3, 7)], [(7, 9), (0, 2)]]
    assert [len(cut(parts, most)) for most in (1, 12, 64)] == [12, 1, 1]
