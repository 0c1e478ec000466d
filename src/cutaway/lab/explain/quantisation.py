"""Weights in few bits and the file that holds them, explained.   Read next: ops/blocks/format.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _blocks() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import FEED, SMOLLM2
    from cutaway.ops.blocks.format import FORMATS, PLAIN

    def bytes_of(name: str) -> int:
        return FEED.hidden * (FORMATS | PLAIN)[name].row_bytes(SMOLLM2.dim)

    return (
        Formula(what="one feed matrix in f32", symbols="4·D·F", result=bytes_of("f32"), unit="bytes"),
        Formula(what="the same in q8_0", symbols="34·D·F/32", result=bytes_of("q8_0"), unit="bytes"),
        Formula(what="in q4_1", symbols="20·D·F/32", result=bytes_of("q4_1"), unit="bytes"),
        Formula(what="in q4_0", symbols="18·D·F/32", result=bytes_of("q4_0"), unit="bytes"),
    )


def _superblocks() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import FEED, SMOLLM2
    from cutaway.ops.blocks.format import FORMATS

    # Rows of `down` have F = 1536 numbers, six superblocks; rows of D = 576 are no whole number of them.
    down = {name: SMOLLM2.dim * FORMATS[name].row_bytes(FEED.hidden) for name in ("q4_k", "q6_k")}
    return (
        Formula(what="the down matrix in q4_k", symbols="144·D·F/256", result=down["q4_k"], unit="bytes"),
        Formula(what="in q6_k", symbols="210·D·F/256", result=down["q6_k"], unit="bytes"),
    )


def _file() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.ops.blocks.format import FORMATS, PLAIN

    parameters = SMOLLM2.cost(1, 1).parameters
    packed = {one.name: parameters * one.bytes // one.weights for one in (FORMATS["q4_1"], PLAIN["f16"])}
    return (
        Formula(what="all weights in q4_1", symbols="P·20//32", result=packed["q4_1"], unit="bytes"),
        Formula(what="all weights in f16", symbols="P·2", result=packed["f16"], unit="bytes"),
    )


BLOCKS = Explanation(
    name="quantisation",
    title="Quantisation in blocks (q4_0, q4_1, q5_0, q5_1, q8_0)",
    what=(
        "To write one token a model reads all its weights once, so fewer bytes mean more tokens per second. "
        "Weights are cut into blocks of 32; each block keeps one scale in half precision and a small integer per "
        "weight. In q4_0 the integers have 4 bits and lie around zero; q4_1 adds a smallest value, which fits blocks "
        "that are not centred; q5 and q8 have more bits and lose less. Here the blocks stay as they are in memory and "
        "are unpacked only while they are multiplied. A block of q4_1 takes 20 bytes for 32 weights: 5 bits each "
        "instead of 32."
    ),
    equation="q4_0: w = d·(q - 8)\nq4_1: w = d·q + m\nq8_0: w = d·q",
    papers=(
        "ggml, ggml-common.h: the layouts",
        "Dettmers et al. 2022, LLM.int8(), arXiv 2208.07339: why scales per block",
    ),
    files=("ops/blocks/format.py", "ops/blocks/small.py", "ops/blocks/dequantise.py"),
    cost=_blocks,
    read_next=("k-quants", "gguf"),
    aliases=("quantization", "quantise", "blocks-of-weights", "q4-0", "q4-1", "q5-0", "q5-1", "q8-0", "packed"),
)

SUPERBLOCKS = Explanation(
    name="k-quants",
    title="K-quants (q4_k, q5_k, q6_k)",
    what=(
        "The k-quants put eight or sixteen small blocks under one roof of 256 weights. The small blocks' scales are "
        "quantised themselves, to 6 or 8 bits, under one scale in half precision for all: that saves bits which go "
        "into the weights instead. At the same size they lose less than the plain blocks. A row has to be a multiple "
        "of 256 for them; smollm2's rows of 576 are not, which is one reason why its file is in q4_1. Mixtures such as "
        "Q4_K_M keep the matrices that suffer most in q6_k."
    ),
    equation=(
        "q4_k: w = d·s·q - dmin·m,   s and m of 6 bits for every 32 weights\n"
        "q6_k: w = d·s·(q - 32),     s of 8 bits for every 16 weights"
    ),
    papers=("ggml, k-quants (llama.cpp, 2023), ggml-common.h",),
    files=("ops/blocks/superblocks.py", "ops/blocks/format.py"),
    cost=_superblocks,
    read_next=("quantisation", "gguf"),
    aliases=("q4-k", "q5-k", "q6-k", "k-quant"),
)

GGUF = Explanation(
    name="gguf",
    title="GGUF",
    what=(
        "GGUF is a file that holds a whole model: its architecture's numbers, its tokenizer, its chat template and its "
        "weights, plain or in blocks. After a short header come named values, then a list of tensors with shapes, "
        "formats and places, then the weights, aligned so that they can be mapped into memory and read where they "
        "lie. Nothing in it is run, unlike a pickled checkpoint. Its counts and places come from a stranger, so every "
        "one is checked against the file's size before it is believed. Names and layouts differ from Hugging Face's: "
        "llama files hold rows of queries and keys in another order, Gemma files hold norm weights with 1 added."
    ),
    equation="magic, version, counts │ named values │ names, shapes, formats, offsets │ data",
    papers=("ggml, docs/gguf.md: the specification",),
    files=("weights/gguf/reader.py",),
    cost=_file,
    read_next=("quantisation", "tokenizer"),
    aliases=("ggml",),
)

QUANTISATION = (BLOCKS, SUPERBLOCKS, GGUF)
