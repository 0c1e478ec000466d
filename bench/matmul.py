"""What torch's kernels, and our own, make of the matrices of smollm2-135m: all ways to multiply by few-bit weights.

    python bench/matmul.py [--rounds 7] [--threads 2] [--layers 30]

A figure is the time of all matrix products of one pass, the head apart, with random weights of the model's shapes;
each matrix has memory of its own, so that a pass finds them as cold as a model does. Every round runs every way once,
so that all meet the same neighbours on the machine. Wall time in ms, medians of rounds; in brackets the processor time
of all threads, least of the rounds, which other programs on the machine disturb less (most of all with one thread).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.cli.machine import look
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.multiply import multiply_kernels, multiply_kernels_int8
from cutaway.ops.multiply.fast import multiply_bfloat16, multiply_exact, multiply_fast
from cutaway.ops.multiply.nibbles import Nibbles
from cutaway.ops.multiply.readable import multiply_readable
from cutaway.ops.packed import Packed

SHAPES = {"q": (576, 576), "k": (192, 576), "v": (192, 576), "o": (576, 576)}
SHAPES |= {"gate": (1536, 576), "up": (1536, 576), "down": (576, 1536)}
FUSED = {"qkv": (960, 576), "o": (576, 576), "gate up": (3072, 576), "down": (576, 1536)}
HEAD = (49152, 576)
ROWS = (1, 4, 16, 37, 512)

Product = Callable[[Tensor], Tensor]  # x (N, C) float32 -> (N, R)
Way = Callable[[Packed], Product]
Figures = dict[str, dict[int, list[tuple[float, float]]]]  # way -> rows -> seconds of wall and processor, per round


def form(multiply: Callable[[Tensor, Packed], Tensor]) -> Way:
    """One of Cutaway's forms, its copy made before it is timed."""

    def way(packed: Packed) -> Product:
        multiply(torch.zeros(1, packed.shape[1]), packed)
        return lambda x: multiply(x, packed)

    return way


def bare_nibbles(packed: Packed) -> Product:
    """The 4-bit kernel for any number of rows."""
    return Nibbles.of(packed.blocks, packed.format).times


def plain(dtype: torch.dtype) -> Way:
    """The weights unpacked for good, x cast to their dtype and back."""

    def way(packed: Packed) -> Product:
        w = dequantise(packed.blocks, packed.format).to(dtype)
        return lambda x: F.linear(x.to(dtype), w).to(x.dtype)

    return way


def half_packed(packed: Packed) -> Product:
    """fbgemm's fp16 weights with fp32 activations."""
    w = torch.ops.quantized.linear_prepack_fp16(dequantise(packed.blocks, packed.format))
    return lambda x: torch.ops.quantized.linear_dynamic_fp16(x, w)


def byte_rows(packed: Packed) -> Product:
    """The 8-bit kernel with one scale per row, which rounds the weights once more."""
    w = dequantise(packed.blocks, packed.format)
    scale = w.abs().amax(1) / 127
    q, scale = (w / scale[:, None]).round().to(torch.int8), scale.bfloat16()
    return lambda x: torch.ops.aten._weight_int8pack_mm(x.bfloat16(), q, scale).to(x.dtype)


def dynamic_bytes(packed: Packed) -> Product:
    """Eight bits for activations too, one scale for all of x."""
    w = dequantise(packed.blocks, packed.format)
    q = torch.quantize_per_channel(w, w.abs().amax(1) / 127, torch.zeros(len(w), dtype=torch.long), 0, torch.qint8)
    weights = torch.ops.quantized.linear_prepack(q, None)
    return lambda x: torch.ops.quantized.linear_dynamic(x, weights)


WAYS: dict[str, Way] = {
    "multiply_fast": form(multiply_fast),
    "multiply_exact": form(multiply_exact),
    "multiply_bfloat16": form(multiply_bfloat16),
    "multiply_kernels": form(multiply_kernels),
    "multiply_kernels_int8": form(multiply_kernels_int8),
    "multiply_readable": form(multiply_readable),
    "int4pack": bare_nibbles,
    "int8pack, scale per row": byte_rows,
    "int8 dynamic": dynamic_bytes,
    "fp16 packed copy": half_packed,
    "fp32 copy": plain(torch.float32),
    "bf16 copy": plain(torch.bfloat16),
    "fp16 copy": plain(torch.float16),
}
SLOW = {"multiply_readable": 37, "fp16 copy": 37}  # not run with more rows: minutes


def matrices(shapes: dict[str, tuple[int, int]], layers: int, name: str) -> list[Packed]:
    return [
        Packed(blocks=quantise(torch.randn(shape) * 0.05, FORMATS[name]), format=FORMATS[name])
        for _ in range(layers)
        for shape in shapes.values()
    ]


def measure(ways: dict[str, list[Product]], columns: list[int], counts: tuple[int, ...], rounds: int) -> Figures:
    """Times all products of each way for each count of rows."""
    figures: Figures = {name: {} for name in ways}
    for count in counts:
        inputs = {width: torch.randn(count, width) for width in set(columns)}
        xs = [inputs[width] for width in columns]
        for index in range(rounds + 1):
            for name, products in ways.items():
                if count > SLOW.get(name, count) or (index > 2 and count > 100):
                    continue
                wall, processor = time.perf_counter(), time.process_time()
                for product, x in zip(products, xs, strict=True):
                    product(x)
                spent = time.perf_counter() - wall, time.process_time() - processor
                if index:  # the first round touches pages and plans
                    figures[name].setdefault(count, []).append(spent)
        print(f"{count} rows done", file=sys.stderr)
    return figures


def error(way: Way, name: str) -> float:
    """Root mean square error of a product of one row, relative to the product's own size."""
    packed = matrices({"one": (1536, 576)}, 1, name)[0]
    x = torch.randn(64, 576)
    y = x.double() @ dequantise(packed.blocks, packed.format).double().T
    product = way(packed)
    found = torch.cat([product(row) for row in x.split(1)]).double()
    return float((found - y).norm() / y.norm())


def table(title: str, figures: Figures, errors: dict[str, float]) -> list[str]:
    counts = sorted({count for columns in figures.values() for count in columns})
    lines = [f"## {title}", "", "| way | " + " | ".join(f"{count} rows" for count in counts) + " | error, 1 row |"]
    lines.append("|---" * (len(counts) + 2) + "|")
    for name, columns in figures.items():
        cells = []
        for count in counts:
            walls, processors = zip(*columns.get(count, [(float("nan"),) * 2]), strict=True)
            cells.append(f"{statistics.median(walls) * 1e3:.1f} ({min(processors) * 1e3:.1f})")
        lines.append(f"| {name} | " + " | ".join(cells) + f" | {errors[name]:.0e} |")
    return [*lines, ""]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--layers", type=int, default=30)
    parser.add_argument("--out", type=Path, help="write the tables here (Markdown), raw numbers beside them (JSON)")
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning)  # torch means to retire its older 8-bit kernels
    torch.set_num_threads(arguments.threads)
    lines = [
        f"# Products with few-bit weights, {date.today()}",
        "",
        f"`python bench/matmul.py {' '.join(sys.argv[1:])}`, {arguments.threads} threads;",
        f"{look().processor}, {', '.join(look().features)}; {platform.system()}, Python {platform.python_version()}, "
        f"torch {torch.__version__}. Wall ms, median (processor ms, least).",
        "",
    ]
    raw: dict[str, Figures] = {}
    with torch.inference_mode():
        for title, shapes, layers, name, counts in (
            (f"{arguments.layers} layers of Q4_1", SHAPES, arguments.layers, "q4_1", ROWS),
            (f"the same, q k v and gate up fused, {arguments.layers} layers", FUSED, arguments.layers, "q4_1", ROWS),
            ("head, Q8_0 49152 x 576", {"head": HEAD}, 1, "q8_0", (1, 4, 16)),
        ):
            packed = matrices(shapes, layers, name)
            chosen = {way: make for way, make in WAYS.items() if name == "q4_1" or make is not bare_nibbles}
            if shapes is FUSED:  # only what a model would use
                chosen = {way: make for way, make in chosen.items() if way.startswith("multiply_")}
            products = {way: [make(one) for one in packed] for way, make in chosen.items()}
            figures = measure(products, [one.shape[1] for one in packed], counts, arguments.rounds)
            raw[title] = figures
            lines += table(title, figures, {way: error(make, name) for way, make in chosen.items()})
            del products
    print("\n".join(lines))
    if arguments.out:
        arguments.out.write_text("\n".join(lines), encoding="utf-8")
        arguments.out.with_suffix(".json").write_text(json.dumps(raw, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
