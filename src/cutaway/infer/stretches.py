"""The tokens of a pass as rows: all parts' end to end, and cut in pieces where a pass may have so many only.

No tensors. N tokens of all parts, flat · X of them whose logits are asked for.
Read next: infer/runner.py, infer/kernel_pages.py
"""

from __future__ import annotations

from collections.abc import Sequence

from cutaway.infer.scheduler import Part

Stretch = tuple[Part, int, int]
"""Of a part the tokens from one place of its text to another."""


def whole(parts: Sequence[Part]) -> list[Stretch]:
    """All tokens of each part."""
    return [(part, part.start, part.start + part.count) for part in parts]


def cut(parts: Sequence[Part], most: int) -> list[list[Stretch]]:
    """The parts' tokens in pieces of `most`, and one of what is left."""
    if sum(part.count for part in parts) <= most:
        return [whole(parts)]
    pieces: list[list[Stretch]] = [[]]
    room = most
    for part, at, end in whole(parts):
        while at < end:
            if not room:
                pieces.append([])
                room = most
            to = min(end, at + room)
            pieces[-1].append((part, at, to))
            room, at = room - (to - at), to
    return pieces


def flat(parts: Sequence[Part]) -> tuple[list[int], list[int], list[int]]:
    """Ids and positions (N,) of all parts' tokens, end to end, and the rows (X,) whose logits are asked for: those
    behind which a token is chosen, and behind guesses, in the order of the parts; then those that are scored."""
    ids, positions, sampled, scored = [], [], [], []
    for part in parts:
        end, before = part.start + part.count, len(ids)
        ids += [*part.sequence.tokens[part.start : end - len(part.guesses)], *part.guesses]
        positions += range(part.start, end)
        scored += [before + place - part.start for place in part.scores]
        if part.samples:
            sampled += range(len(ids) - 1 - len(part.guesses), len(ids))
    return ids, positions, sampled + scored
