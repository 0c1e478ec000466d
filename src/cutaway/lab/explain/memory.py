"""Training in less memory, explained.   Read next: train/recompute.py, train/precision.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _recomputed() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    blocks = sum(block.cost(SMOLLM2.dim, 1, SMOLLM2.length).flops for block in SMOLLM2.blocks)
    return (
        Formula(what="kept of a token", symbols="4·D·L", result=4 * SMOLLM2.dim * len(SMOLLM2.blocks), unit="bytes"),
        Formula(what="FLOPs more for the token at S", symbols="L·(4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K·S)", result=blocks),
    )


def _precision() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.lab.plan import PRECISIONS
    from cutaway.train.precision import Float16

    parameters = SMOLLM2.cost(1, 1).parameters
    mixed, full = PRECISIONS["mixed"], PRECISIONS["float32"]
    return (
        Formula(what="weights that are multiplied", symbols="2·P", result=mixed.weight * parameters, unit="bytes"),
        Formula(what="the same in float32", symbols="4·P", result=full.weight * parameters, unit="bytes"),
        Formula(what="the factor of the loss at the start", symbols="2**10", result=int(Float16().factor)),
    )


RECOMPUTED = Explanation(
    name="gradient-checkpointing",
    title="Gradient checkpointing (recomputation)",
    what=(
        "The backward pass needs what the forward pass made, for every block of every token: of a long text that is "
        "more than the model itself. Checkpointing keeps only what goes into each block and runs the block again when "
        "the way back reaches it, with the same random numbers. Memory falls from all blocks' to one block's and the "
        "inputs, for one forward pass more, about a third of the arithmetic. The gradients are the same."
    ),
    equation="forward: keep x_l        backward: run block_l(x_l) again, then differentiate it",
    papers=("Chen et al. 2016, Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174",),
    files=("train/recompute.py",),
    cost=_recomputed,
    read_next=("mixed-precision", "tiled-attention"),
    aliases=("checkpointing", "activation-checkpointing", "recompute", "recomputation", "gradient-checkpoint"),
)

PRECISION = Explanation(
    name="mixed-precision",
    title="Mixed precision and loss scaling",
    what=(
        "Products in 16 bits take half the memory and on most processors much less time. Sums and weights stay in "
        "float32, or small steps would be rounded away. bfloat16 has the range of float32 and needs no care. float16 "
        "ends at 6e-8, below which gradients vanish; so the loss is multiplied by a large factor before the backward "
        "pass and the gradients divided by it behind. The factor is sought: doubled while all goes well, halved when a "
        "step overflows, which is then left out."
    ),
    equation="g = (1 / factor) · d(factor · loss) / dw;    overflow: factor / 2, no step",
    papers=("Micikevicius et al. 2017, Mixed Precision Training, arXiv 1710.03740",),
    files=("train/precision.py", "train/fit.py"),
    cost=_precision,
    read_next=("gradient-checkpointing", "adamw"),
    aliases=("loss-scaling", "bfloat16", "bf16", "float16", "fp16", "amp", "autocast"),
)

MEMORY = (RECOMPUTED, PRECISION)
