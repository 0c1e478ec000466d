"""What 7.5 billion parameters and Adam take on each of 64 GPUs, for each stage of ZeRO.

Rajbhandari et al. 2019 (arXiv 1910.02054), figure 1.   Read next: lab/plan.py, train/parallel/zero.py
"""

from __future__ import annotations

from cutaway.lab.card import Card, Finding, Near
from cutaway.lab.plan import Setting, plan

PAPER = {"ddp": 120.0, "zero-1": 31.4, "zero-2": 16.6, "zero-3": 1.9}  # 10^9 bytes


def _compute() -> tuple[Finding, ...]:
    rows = {row.strategy: row.states / 1e9 for row in plan(7_500_000_000, Setting(devices=64))}
    return tuple(
        Finding(what=f"{name}: GB on each GPU", expected=Near(value=value, tolerance=0.02), ours=rows[name])
        for name, value in PAPER.items()
    )


CARD = Card(
    name="zero-memory",
    claim="7.5B parameters with Adam take 120 GB a GPU; over 64 GPUs ZeRO's stages take 31.4, 16.6 and 1.9 GB.",
    source="Rajbhandari et al. 2019 (arXiv 1910.02054), figure 1",
    computed="what `cutaway plan 7.5B --gpus 64` counts of weights, gradients and optimiser state",
    tolerance="2%: the paper rounds 1.875 to 1.9",
    seconds=1,
    compute=_compute,
)
