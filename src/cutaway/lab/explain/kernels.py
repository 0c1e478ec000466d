"""What bounds the speed of a model on a processor, and how its products are computed, explained.

Read next: ops/cpu/steps/scalar.cpp, ops/cpu/multiply_int8.cpp
"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _token() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.ops.blocks.format import FORMATS

    parameters, format = SMOLLM2.cost(1, 1).parameters, FORMATS["q4_0"]
    return (
        Formula(what="multiplications and additions of one token", symbols="2·P", result=2 * parameters),
        Formula(what="bytes that it reads in fp32", symbols="4·P", result=4 * parameters, unit="bytes"),
        Formula(
            what="bytes that it reads in q4_0",
            symbols="18·P//32",
            result=format.bytes * parameters // format.weights,
            unit="bytes",
        ),
    )


def _matrix() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import FEED, SMOLLM2
    from cutaway.ops.cpu.pack import GROUP, LANES

    strips, groups = FEED.hidden // LANES, SMOLLM2.dim // GROUP
    return (
        Formula(what="one feed matrix: strips of 16 outputs", symbols="F//16", result=strips),
        Formula(what="groups of 32 columns in a strip", symbols="D//32", result=groups),
        Formula(what="loads of 64 bytes for all its weights", symbols="F//16·D//32·4", result=strips * groups * 4),
    )


ROOFLINE = Explanation(
    name="roofline",
    title="The roofline: what bounds a product's speed",
    what=(
        "A processor can do so many operations a second, and memory can hand it so many bytes; whichever it is short "
        "of bounds what runs on it. Operations for each byte decide which. One token multiplies each weight once, so "
        "writing text is bound by memory: fewer bits a weight, or several texts at once, are what makes it faster. "
        "Reading a prompt multiplies each weight with hundreds of rows and is bound by products. `cutaway compare "
        "matmul` draws both limits of your machine, and where each way of multiplying stands under them."
    ),
    equation="operations/s <= min(bandwidth · operations per byte, matmul rate)",
    papers=("Williams, Waterman, Patterson 2009, Roofline, CACM 52(4)",),
    files=("lab/roofline.py", "lab/compare/matmul_page.py", "lab/bound.py"),
    cost=_token,
    read_next=("cpu-kernels", "quantisation"),
    aliases=("bandwidth", "memory-bound", "arithmetic-intensity"),
)

KERNELS = Explanation(
    name="cpu-kernels",
    title="Kernels: products by the processor's vector instructions",
    what=(
        "One instruction can do the same to sixteen floats, or multiply sixty-four pairs of bytes; a kernel is a loop "
        "written for such instructions. Weights are repacked once so that sixteen outputs lie side by side, one in "
        "each lane of a register. Activations stay floats, or are rounded to int8 in groups of 32 with a scale each, "
        "which is faster and changes a product by half a percent. Memory is asked for weights before they are needed. "
        "The C++ is compiled at first use by the machine's own compiler; without one torch multiplies."
    ),
    equation=(
        "w = scale·(q - 8),   x = d·code,   d = max |x| / 127\n"
        "sum of w·x over a group = scale·d·(sum of q·code - 8·sum of code)"
    ),
    papers=(
        "Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339: activations in int8",
        "Intel, Deep Learning Boost: vpdpbusd, four products of bytes to a lane",
    ),
    files=("ops/cpu/steps/int8.cpp", "ops/cpu/multiply_int8.cpp", "ops/cpu/pack.py"),
    cost=_matrix,
    read_next=("roofline", "quantisation"),
    aliases=("simd", "vectorisation", "vnni", "dot-product", "int8-activations", "prefetch"),
)

KERNEL_ENTRIES = (ROOFLINE, KERNELS)
