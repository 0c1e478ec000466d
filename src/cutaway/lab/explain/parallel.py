"""Training on many devices explained.   Read next: lab/plan.py, train/parallel/ring.py"""

from __future__ import annotations

from typing import Any

from cutaway.lab.explain.explanation import Explanation, Formula

DEVICES = 8


def _row(name: str, **told: Any) -> Any:
    """What `cutaway plan` says of smollm2-135m in that strategy."""
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.lab.plan import Setting, plan

    return plan(SMOLLM2, Setting(**{"devices": DEVICES, **told}), (name,))[0]


def _data() -> tuple[Formula, ...]:
    row = _row("ddp")
    return (
        Formula(what="weights, gradients, Adam on each device", symbols="16·P", result=int(row.states), unit="bytes"),
        Formula(what="sent by each of 8, each step", symbols="2·2·P·7//8", result=int(row.sent), unit="bytes"),
    )


def _ring() -> tuple[Formula, ...]:
    sent = {count: int(_row("ddp", devices=count, precision="float32").sent) for count in (2, 8)}
    return (
        Formula(what="sent by each of 2, gradients in float32", symbols="2·4·P·1//2", result=sent[2], unit="bytes"),
        Formula(what="by each of 8", symbols="2·4·P·7//8", result=sent[8], unit="bytes"),
    )


def _zero() -> tuple[Formula, ...]:
    names = {"zero-1": "4·P + 12·P//8", "zero-2": "2·P + 14·P//8", "zero-3": "16·P//8"}
    return tuple(
        Formula(what=f"{name} over 8, on each", symbols=symbols, result=int(_row(name).states), unit="bytes")
        for name, symbols in names.items()
    )


def _sharded() -> tuple[Formula, ...]:
    row = _row("zero-3")
    block = "2·D·H·K + 2·D·G·K + 3·D·F + 2·D"
    return (
        Formula(what="between steps, over 8, on each", symbols="16·P//8", result=int(row.states), unit="bytes"),
        Formula(
            what="borrowed at once: a block, tables and last norm",
            symbols=f"2·({block} + V·D + D)",
            result=int(row.gathered),
            unit="bytes",
        ),
    )


def _tensor() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import BLOCK, SMOLLM2
    from cutaway.lab.plan import narrowed

    return (
        Formula(
            what="parameters of a block on each of 3",
            symbols="(2·D·H·K + 2·D·G·K + 3·D·F)//3 + 2·D",
            result=narrowed(BLOCK, 3).cost(SMOLLM2.dim, 1, 1).parameters,
        ),
    )


def _pipeline() -> tuple[Formula, ...]:
    sent = int(_row("ddp", devices=2, pipeline=2, length=1).sent)
    return (Formula(what="between two stages, each token, bfloat16", symbols="2·D", result=sent, unit="bytes"),)


DATA = Explanation(
    name="data-parallel",
    title="Data parallel (DDP)",
    what=(
        "Every device holds the whole model and reads other texts. After the backward pass the gradients are averaged, "
        "so all take the same step and stay alike. They are sent in buckets while the backward pass still makes the "
        "next ones, and the sending is mostly hidden. It is the simplest way to be faster; it needs the model, its "
        "gradients and its optimiser state on every device."
    ),
    equation="g = 1/p Σ over devices of g_i;    every device makes the same step",
    papers=("Li et al. 2020, PyTorch Distributed, arXiv 2006.15704",),
    files=("train/parallel/replicate.py",),
    cost=_data,
    read_next=("ring-all-reduce", "zero"),
    aliases=("ddp", "data-parallelism", "distributed"),
)

RING = Explanation(
    name="ring-all-reduce",
    title="Ring all-reduce",
    what=(
        "All devices hold a long vector and all want the sum. In a circle each sends to the right and hears from the "
        "left. The vector is cut in as many chunks as there are devices; first sums travel once around, and each "
        "device ends with one finished chunk; then finished chunks travel once around. Each device sends less than "
        "twice the vector, however many there are: no one can do with less. Run `cutaway reproduce "
        "ring-all-reduce-bytes` to see the bytes counted."
    ),
    equation="reduce-scatter: p - 1 turns;  all-gather: p - 1 turns;  sent: 2 (p - 1) / p",
    papers=("Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms",),
    files=("train/parallel/ring.py",),
    cost=_ring,
    read_next=("data-parallel", "zero"),
    aliases=("all-reduce", "allreduce", "ring", "reduce-scatter", "all-gather"),
)

ZERO = Explanation(
    name="zero",
    title="ZeRO",
    what=(
        "In data parallel all devices keep the same optimiser state, gradients and weights. ZeRO has each keep a part: "
        "stage 1 of the optimiser's state, which is most of it, stage 2 of the gradients too, stage 3 of the weights "
        "too. The first two send no more than an all-reduce, since that is a scatter and a gather anyway; the third "
        "sends half as much again, to borrow weights when they are needed. `cutaway plan` counts all of it for a model "
        "and a number of devices."
    ),
    equation=(
        "bytes a parameter, d devices, Adam in mixed precision:\n"
        "ddp 2 + 2 + 12    1: 2 + 2 + 12/d    2: 2 + (2 + 12)/d    3: (2 + 2 + 12)/d"
    ),
    papers=("Rajbhandari et al. 2019, ZeRO, arXiv 1910.02054",),
    files=("train/parallel/zero.py", "lab/plan.py"),
    cost=_zero,
    read_next=("fsdp", "data-parallel", "ring-all-reduce"),
    aliases=("zero-1", "zero-2", "zero-3", "deepspeed", "sharded-optimiser"),
)

SHARDED = Explanation(
    name="fsdp",
    title="Fully sharded data parallel (FSDP)",
    what=(
        "ZeRO's third stage, block by block. Each device holds a part of every weight. Before a block runs, its "
        "weights are gathered from all; behind it they are forgotten; on the way back the same, and its gradients are "
        "scattered to their owners at once. So a device needs the memory of its share and of one block. While one "
        "block computes, the next one's weights are already on their way."
    ),
    equation="for each block:  gather W;  run;  forget W\nbackward:        gather W;  run;  scatter dW",
    papers=(
        "Zhao et al. 2023, PyTorch FSDP, arXiv 2304.11277",
        "Rajbhandari et al. 2019, ZeRO, arXiv 1910.02054, section 5.3",
    ),
    files=("train/parallel/shard.py",),
    cost=_sharded,
    read_next=("zero", "tensor-parallel"),
    aliases=("fsdp2", "fully-sharded", "sharding"),
)

TENSOR = Explanation(
    name="tensor-parallel",
    title="Tensor parallel",
    what=(
        "The matrices of each block are cut, not the batch. The first map of a pair is cut by outputs, the second by "
        "inputs: in between each device has its own heads or columns and needs nobody. Behind the second the parts "
        "are added up, twice in a block forward and again backward. That is much sending, at every layer, so it is "
        "for devices joined by fast links. Heads and columns must divide by their number."
    ),
    equation="W = [W_1 … W_p] by outputs;  y = Σ over devices of  f(x W_iᵀ) V_iᵀ",
    papers=("Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053, section 3",),
    files=("train/parallel/tensor.py", "train/parallel/columns.py"),
    cost=_tensor,
    read_next=("pipeline-parallel", "fsdp"),
    aliases=("megatron", "tensor-parallelism", "column-parallel", "row-parallel"),
)

PIPELINE = Explanation(
    name="pipeline-parallel",
    title="Pipeline parallel",
    what=(
        "Each device has some of the blocks, and a batch goes from one to the next. One batch alone would keep all but "
        "one of them waiting, so it is cut into micro-batches that follow one another. At the beginning and the end "
        "some still wait: that share, the bubble, shrinks with more micro-batches. Little is sent, one vector a token "
        "from stage to stage, so it suits slow links."
    ),
    equation="waiting = (p - 1) / (m + p - 1)    of p stages and m micro-batches",
    papers=("Huang et al. 2018, GPipe, arXiv 1811.06965",),
    files=("train/parallel/pipeline.py",),
    cost=_pipeline,
    read_next=("tensor-parallel", "data-parallel"),
    aliases=("gpipe", "pipeline", "bubble", "pipeline-parallelism"),
)

PARALLEL = (DATA, RING, ZERO, SHARDED, TENSOR, PIPELINE)
