"""What attention keeps for its backward pass: scores grow as the square of the tokens, tiles keep none of them.

Dao et al. 2022 (FlashAttention, arXiv 2205.14135), theorem 1: O(N) memory beside input and output. Counted, not
measured: the bytes that the graph holds between the passes, and the largest tensor that either makes.
Read next: ops/tiled.py, lab/checks/memory.py
"""

from __future__ import annotations

from cutaway.lab.card import AtMost, Card, Finding, Near
from cutaway.lab.checks.memory import kept, slope
from cutaway.ops.attend import attend_readable
from cutaway.ops.tiled import attend_tiled

TOKENS = (256, 512, 1024)


def _compute() -> tuple[Finding, ...]:
    naive, tiled = ([kept(attend, tokens) for tokens in TOKENS] for attend in (attend_readable, attend_tiled))
    return (
        Finding(
            what="slope of what naive attention keeps",
            expected=Near(value=2.0, tolerance=0.05),
            ours=slope(TOKENS, [one.saved for one in naive]),
        ),
        Finding(
            what="slope of what attention in tiles keeps",
            expected=Near(value=1.0, tolerance=0.01),
            ours=slope(TOKENS, [one.saved for one in tiled]),
        ),
        Finding(
            what="slope of the largest tensor, in tiles",
            expected=AtMost(value=1.0),
            ours=slope(TOKENS, [one.largest for one in tiled]),
        ),
    )


CARD = Card(
    name="flash-memory-slope",
    claim="The memory of attention in tiles grows as the number of tokens, not as its square.",
    source="Dao et al. 2022 (arXiv 2205.14135), theorem 1 and section 3.1",
    computed="bytes that the graph of one causal pass holds, for 256 to 1,024 tokens; the slope between logarithms",
    tolerance="5% for the naive form, which keeps q, k and v beside the scores; 1% for tiles, which keep nothing else",
    seconds=1,
    compute=_compute,
)
