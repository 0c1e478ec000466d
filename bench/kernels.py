"""The Triton kernels against what torch has for the same work, on a GPU: milliseconds, forward and with gradients.

    python bench/kernels.py [--length 512 2048 8192] [--rounds 20] [--dtype bfloat16] [--out results.md]

Flash attention against torch's scaled_dot_product_attention, paged decode against gathering the pages and that, norm
and rotation in one against torch's rms_norm and then `rotate_fast`. Each round runs every way once, so that all meet
the same neighbours; a figure is the median. A way's largest difference from the float64 readable form stands beside it:
a fast wrong kernel must show. Without a GPU there is nothing to measure, and it ends with 1; with TRITON_INTERPRET=1 it
rehearses on the CPU, at sizes of a few tokens, and says so in its title.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.ops.attend import attend_sdpa
from cutaway.ops.choice import interpreted, triton_lacks
from cutaway.ops.norm_rotate import norm_rotate_readable
from cutaway.ops.paged import attend_paged_readable
from cutaway.ops.rope import frequencies, rotate_fast, tables
from cutaway.ops.tiled import attend_tiled
from cutaway.ops.visible import Visible

HEADS, GROUPS, WIDTH, PAGE = 32, 8, 128, 16  # Llama 3 8B's attention; a server's pages
Way = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Task:
    """Some work, the ways to do it, and what it works on. `learns`: of so many first inputs the gradients count too."""

    name: str
    exact: Way
    ways: dict[str, Way]
    given: tuple[Tensor, ...]
    learns: int = 0


def attention(length: int, dtype: torch.dtype, device: str, window: int | None) -> Task:
    from cutaway.ops.triton.flash import attend_flash

    see = Visible(queries=(length,), keys=(length,), window=window)
    told = {"see": see, "scale": WIDTH**-0.5}
    heads = (HEADS, GROUPS, GROUPS)
    return Task(
        name=f"attention, {length} tokens" + (f", window {window}" if window else ""),
        exact=partial(attend_tiled, **told),
        ways={"torch sdpa": partial(attend_sdpa, **told), "triton": partial(attend_flash, **told)},
        given=tuple(torch.randn(length, count, WIDTH, dtype=dtype, device=device) for count in heads),
        learns=3,
    )


def paged(length: int, dtype: torch.dtype, device: str, sequences: int) -> Task:
    from cutaway.ops.triton.paged import attend_paged

    pages = -(-length // PAGE)
    table_BM = torch.randperm(sequences * pages, device=device).view(sequences, pages).int()
    lengths_B = torch.full((sequences,), length, dtype=torch.int32, device=device)
    pool = [torch.randn(sequences * pages, PAGE, GROUPS, WIDTH, dtype=dtype, device=device) for _ in range(2)]

    def gathered(q_BHK: Tensor, keys: Tensor, values: Tensor, table_BM: Tensor, lengths_B: Tensor) -> Tensor:
        k, v = (pool[table_BM.long()].flatten(1, 2)[:, :length].transpose(1, 2) for pool in (keys, values))
        q_BH1K = q_BHK[:, :, None]
        return F.scaled_dot_product_attention(q_BH1K, k, v, scale=WIDTH**-0.5, enable_gqa=True)[:, :, 0]

    return Task(
        name=f"decode, {sequences} sequences of {length} tokens in pages of {PAGE}",
        exact=partial(attend_paged_readable, scale=WIDTH**-0.5),
        ways={"torch gather, sdpa": gathered, "triton": partial(attend_paged, scale=WIDTH**-0.5)},
        given=(torch.randn(sequences, HEADS, WIDTH, dtype=dtype, device=device), *pool, table_BM, lengths_B),
    )


def norm_rotate(length: int, dtype: torch.dtype, device: str) -> Task:
    from cutaway.ops.triton.norm_rotate import norm_rotate_fused

    positions_N = torch.arange(length, device=device)
    cos, sin = tables(frequencies(1e4, WIDTH, device), positions_N, dtype=dtype)

    def apart(x_NHK: Tensor, weight_K: Tensor, cos_N1W: Tensor, sin_N1W: Tensor) -> Tensor:
        return rotate_fast(F.rms_norm(x_NHK, (WIDTH,), weight_K, 1e-6), cos_N1W, sin_N1W)

    return Task(
        name=f"norm and rotation, {length} tokens",
        exact=partial(norm_rotate_readable, eps=1e-6),
        ways={"torch rms_norm, rotate_fast": apart, "triton": partial(norm_rotate_fused, eps=1e-6)},
        given=(
            torch.randn(length, HEADS, WIDTH, dtype=dtype, device=device),
            torch.ones(WIDTH, dtype=dtype, device=device),
            cos,
            sin,
        ),
        learns=2,
    )


def once(way: Way, task: Task, learning: bool) -> tuple[float, Tensor]:
    """Milliseconds of one call (and its gradients), from a device that had nothing to do, and the output."""
    learns = task.learns if learning else 0
    given = [tensor.detach().requires_grad_(index < learns) for index, tensor in enumerate(task.given)]
    wait()
    start = time.perf_counter()
    with torch.set_grad_enabled(learning):
        y = way(*given)
        if learning:
            torch.autograd.grad(y, given[:learns], torch.ones_like(y))
    wait()
    return 1e3 * (time.perf_counter() - start), y.detach()


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def measured(task: Task, rounds: int) -> list[dict[str, Any]]:
    """A line for each way. The first two rounds compile and warm up."""
    exact = task.exact(*(one.double() if one.is_floating_point() else one for one in task.given))
    times: dict[str, dict[str, list[float]]] = {name: {"forward": [], "gradients": []} for name in task.ways}
    errors: dict[str, float] = {}
    for index in range(rounds + 2):
        for name, way in task.ways.items():
            for part in ("forward", "gradients")[: 2 if task.learns else 1]:
                spent, y = once(way, task, part == "gradients")
                errors[name] = float((y.double() - exact).abs().max())
                if index >= 2:
                    times[name][part].append(spent)
    return [
        {
            "task": task.name,
            "way": name,
            "error": errors[name],
            **{part: statistics.median(spent) if spent else None for part, spent in times[name].items()},
        }
        for name in task.ways
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--length", type=int, nargs="+", default=[512, 2048, 8192])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--dtype", choices=["bfloat16", "float16", "float32"], default="bfloat16")
    parser.add_argument("--out", type=Path, help="write the table here (Markdown), raw numbers beside it (JSON)")
    chosen = parser.parse_args(arguments)
    error = triton_lacks()
    if error is not None:
        print(f"nothing to measure: {error}", file=sys.stderr)
        return 1
    rehearsal, dtype = interpreted(), getattr(torch, chosen.dtype)
    device, lengths, rounds = ("cpu", [17], 1) if rehearsal else ("cuda", chosen.length, chosen.rounds)
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    for length in lengths:
        for task in (
            attention(length, dtype, device, None),
            attention(length, dtype, device, max(1, length // 8)),
            paged(length, dtype, device, 1 if rehearsal else 16),
            norm_rotate(length, dtype, device),
        ):
            print(f"{task.name} ...", file=sys.stderr)
            rows += measured(task, rounds)
    name = "a rehearsal in Triton's interpreter: its times say nothing" if rehearsal else torch.cuda.get_device_name()
    lines = [f"# Kernels, {date.today()}, {name}", ""]
    lines += [f"`python bench/kernels.py {' '.join(sys.argv[1:])}`, {chosen.dtype}, torch {torch.__version__}", ""]
    lines += ["| work | way | forward ms | with gradients ms | largest error |", "|---|---|---|---|---|"]
    for row in rows:
        cells = (f"{row[part]:.3f}" if row[part] is not None else "" for part in ("forward", "gradients"))
        lines.append(f"| {row['task']} | {row['way']} | {' | '.join(cells)} | {row['error']:.1e} |")
    print("\n".join(lines))
    if chosen.out:
        chosen.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
        chosen.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
