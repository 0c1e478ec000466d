"""Training: Cutaway beside nanoGPT, and the share of this machine's matrix products that a larger decoder reaches.

    python bench/train.py --nanogpt PATH --data FILE [--rounds 3] [--threads 2] [--steps 2000] [--only-identical]

PATH is a checkout of nanoGPT whose data/shakespeare_char is prepared; FILE is the text that it was prepared from
(tinyshakespeare). Every round runs every side once, each in a process of its own, so that all meet the same neighbours
on the machine; figures are medians of rounds, ratios medians of each round's ratio.
  identical   the same model (GPT-2's shape without biases), AdamW, rate, schedule, clipping, 12 windows of 64
              characters a step, float32; seconds of a step. On our own kernels (`attend=kernels`) and on torch alone;
              also with products in bfloat16, which nanoGPT has on GPUs
  to 1.88     nanoGPT's 2,000 steps beside `cutaway train shakespeare-char --attend kernels` with as many parameters and
              tokens a step at most, to a validation loss of 1.88 over the whole split; wall time of the whole process,
              both
  peak        a decoder of dim 512: FLOPs of its matrix products a second, as a share of a square product's
Without nanoGPT or the text it says what is missing and does the rest.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

TOKENS = 12 * 64  # of a step
LOSS = 1.88
NANOGPT = ["device=cpu", "compile=False", "eval_iters=20", "block_size=64", "batch_size=12", "dropout=0.0"]
NANOGPT += ["n_layer=4", "n_head=4", "n_embd=128"]


def identical(data: Path, steps: int, precision: str = "float32", attend: str | None = None) -> dict[str, float]:
    """Our loop on nanoGPT's own setting; seconds of a step (median) and the last loss. `attend`: as `--attend`."""

    from cutaway.base.seeds import seed_all
    from cutaway.data.batches import Batches
    from cutaway.data.documents import Held
    from cutaway.data.packing import Windows
    from cutaway.models.decoder import Decoder
    from cutaway.nn.attention.grouped import GroupedQuery
    from cutaway.nn.block import Block
    from cutaway.nn.feedforward import Plain
    from cutaway.nn.norms import LayerNorm
    from cutaway.nn.positions import Learned
    from cutaway.ops.forms import attended
    from cutaway.text.character import Character
    from cutaway.train.fit import fit
    from cutaway.train.objectives.causal import Causal
    from cutaway.train.optimisers.adamw import AdamW
    from cutaway.train.precision import named
    from cutaway.train.schedules import Cosine, Scheduled

    text = data.read_text(encoding="utf-8")
    tokenizer = Character.train([text]).fast()
    norm = LayerNorm(bias=False)
    mixer, feed = GroupedQuery(heads=4, kv_heads=4, head_dim=32), Plain(hidden=512, activation="gelu", bias=False)
    block = Block(mixer=mixer, feed=feed, before=norm)
    spec = Decoder(
        vocab=tokenizer.vocab, dim=128, blocks=(block,) * 4, length=64, norm=norm, positions=Learned(length=64)
    )
    seed_all(1337)
    module = spec.build()
    rows = Windows(Held([tokenizer.encode(text[: int(0.9 * len(text))])]), length=64, seed=1337)
    optimiser = Scheduled(
        AdamW(rate=1e-3, betas=(0.9, 0.99), decay=0.1).build(module), Cosine(warmup=100, steps=2000, floor=0.1)
    )
    times, loss = [time.perf_counter()], 0.0
    told: dict[str, Any] = {"steps": steps, "precision": named(precision)}
    for step in fit(module, Causal(forms=attended(attend)), Batches(rows, count=12), optimiser, **told):
        times.append(time.perf_counter())
        loss = step.loss
    parameters = sum(weight.numel() for weight in module.parameters())
    return {"step": _median_gap(times), "loss": loss, "parameters": parameters}


def peak(steps: int = 12) -> dict[str, float]:
    """FLOPs a second of a training step's matrix products at dim 512, and of a square product."""
    import torch

    from cutaway.data.batch import Batch
    from cutaway.lab.measure import matmul_rate
    from cutaway.recipes.nano import small
    from cutaway.train.fit import fit
    from cutaway.train.objectives.causal import Causal
    from cutaway.train.optimisers.adamw import AdamW

    length, rows = 256, 8
    spec = small(vocab=2048, layers=6, heads=8, dim=512, hidden=1360, length=length)
    module = spec.build()
    ids = torch.randint(0, spec.vocab, (steps, rows * length + 1))
    batches = [Batch(ids_N=row[:-1], targets_N=row[1:], lengths=(length,) * rows) for row in ids]
    before = matmul_rate(torch.float32, seconds=1.0) or 0.0
    times = [time.perf_counter()]
    for _ in fit(module, Causal(), batches, AdamW(rate=1e-3).build(module), steps=steps):
        times.append(time.perf_counter())
    after = matmul_rate(torch.float32, seconds=1.0) or 0.0
    seconds, flops = _median_gap(times), 3 * rows * spec.cost(length, length).flops
    return {"rate": flops / seconds, "peak": max(before, after), "share": flops / seconds / max(before, after)}


def theirs(nanogpt: Path, steps: int, threads: int) -> dict[str, float]:
    """nanoGPT's train.py as it is."""
    settings = [*NANOGPT, f"max_iters={steps}", "lr_decay_iters=2000"]
    command = [sys.executable, "train.py", "config/train_shakespeare_char.py", *(f"--{one}" for one in settings)]
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=nanogpt, env=_environment(threads), capture_output=True, encoding="utf-8", check=False
    )
    wall = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"nanoGPT's train.py failed: {done.stderr.strip().splitlines()[-1:]}")
    times = [float(one) / 1000 for one in re.findall(r"time ([\d.]+)ms", done.stdout)]
    losses = [float(one) for one in re.findall(r"val loss ([\d.]+)", done.stdout)]
    return {"step": statistics.median(times[1:]), "wall": wall, "val_loss": losses[-1]}


def to_loss(data: Path, threads: int) -> dict[str, float]:
    """`cutaway train shakespeare-char`, on our own kernels, until the loss is reached, from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        changes = [f"corpus={data}", f"until={LOSS}", *SHORT]
        run = Path(folder) / "run"
        command = [sys.executable, "-m", "cutaway", "train", "shakespeare-char", *changes, "--run", str(run)]
        start = time.perf_counter()
        subprocess.run(command, env=_environment(threads), check=True, capture_output=True)
        wall = time.perf_counter() - start
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    reached = next((line for line in lines if line.get("val_loss", 9.9) <= LOSS), lines[-1])
    return {"wall": wall, "steps": reached["step"], "loop": reached["seconds"], "val_loss": reached["val_loss"]}


SHORT = ("steps=400", "evaluate=100", "attend=kernels")


def _median_gap(times: list[float]) -> float:
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return statistics.median(gaps[min(3, len(gaps) - 1) :])


def _environment(threads: int) -> dict[str, str]:
    # "on": kernels that are not compiled yet are, before anything is timed
    return {"CUTAWAY_KERNELS": "on", **os.environ, "OMP_NUM_THREADS": str(threads), "CUTAWAY_THREADS": str(threads)}


def _apart(side: str, data: Path | None, steps: int, threads: int) -> dict[str, float]:
    """One of ours in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--steps", str(steps), "--threads", str(threads)]
    command += ["--data", str(data)] if data else []
    done = subprocess.run(command, env=_environment(threads), check=True, stdout=subprocess.PIPE, encoding="utf-8")
    return json.loads(done.stdout.splitlines()[-1])


def report(found: dict[str, list[dict[str, float]]], threads: int, command: str) -> str:
    """The table, in Markdown."""

    def middle(side: str, figure: str) -> float:
        return statistics.median(one[figure] for one in found[side])

    def span(side: str, figure: str, scale: float = 1.0, digits: int = 1) -> str:
        values = sorted(one[figure] * scale for one in found[side])
        return f"{statistics.median(values):,.{digits}f} ({values[0]:,.{digits}f} to {values[-1]:,.{digits}f})"

    packages = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("torch", "cutaway"))
    lines = [
        f"# Training, {date.today().isoformat()}",
        "",
        f"`{command}`; {_processor()}, {threads} threads, {platform.system()}; Python {platform.python_version()}, "
        f"{packages}. Medians (lowest to highest) of {max(map(len, found.values()))} rounds.",
        "",
        "| | nanoGPT | Cutaway |",
        "|---|---|---|",
    ]
    if "nanogpt" in found and "identical" in found:
        lines.append(f"| identical: ms a step | {span('nanogpt', 'step', 1e3)} | {span('identical', 'step', 1e3)} |")
        rates = [f"{TOKENS / middle(side, 'step'):,.0f}" for side in ("nanogpt", "identical")]
        lines.append(f"| identical: tokens/s | {rates[0]} | {rates[1]} |")
        lines.append(f"| the same on torch alone: ms a step | | {span('torch', 'step', 1e3)} |")
        narrow = f"{span('bfloat16', 'step', 1e3)} | "
        lines.append(f"| the same, products in bfloat16: ms a step | | {narrow}".rstrip())
    if "nanogpt" in found and "to 1.88" in found:
        losses = [f"{middle(side, 'val_loss'):.3f}" for side in ("nanogpt", "to 1.88")]
        lines.append(f"| wall time, s | {span('nanogpt', 'wall')} | {span('to 1.88', 'wall')} |")
        lines.append(f"| validation loss | {losses[0]} | {losses[1]}, after {middle('to 1.88', 'steps'):.0f} steps |")
    lines.append("")
    if "nanogpt" in found and "identical" in found:
        ratios = [a["step"] / b["step"] for a, b in zip(found["nanogpt"], found["identical"], strict=True)]
        lines.append(f"- identical setting: {statistics.median(ratios):.2f} times nanoGPT's tokens/s")
        ratios = [a["step"] / b["step"] for a, b in zip(found["nanogpt"], found["torch"], strict=True)]
        lines.append(f"- on torch alone: {statistics.median(ratios):.2f} times")
        ratios = [a["step"] / b["step"] for a, b in zip(found["nanogpt"], found["bfloat16"], strict=True)]
        lines.append(f"- with products in bfloat16: {statistics.median(ratios):.2f} times")
    if "nanogpt" in found and "to 1.88" in found:
        ratios = [b["wall"] / a["wall"] for a, b in zip(found["nanogpt"], found["to 1.88"], strict=True)]
        lines.append(f"- wall time to {LOSS}: {statistics.median(ratios):.2f} of nanoGPT's for its 2,000 steps")
    if "peak" in found:
        lines.append(
            f"- decoder of dim 512: {span('peak', 'rate', 1e-9, 0)} GFLOP/s of {span('peak', 'peak', 1e-9, 0)}, "
            f"{100 * middle('peak', 'share'):.0f}% of the matmul peak"
        )
    return "\n".join(lines) + "\n"


def _processor() -> str:
    from cutaway.cli.machine import look

    return look().processor


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--nanogpt", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2000, help="of nanoGPT, and 300 at most of the identical setting")
    parser.add_argument("--out", type=Path, help="where the table is written, beside stdout")
    parser.add_argument(
        "--only-identical", action="store_true", help="the identical setting alone: short rounds, so more of them"
    )
    parser.add_argument("--side", choices=("identical", "torch", "bfloat16", "peak"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.side:
        import torch

        torch.set_num_threads(given.threads)
        precision = "bfloat16" if given.side == "bfloat16" else "float32"
        attend = "kernels" if given.side == "identical" else None
        told: Any = peak() if given.side == "peak" else identical(given.data, given.steps, precision, attend)
        print(json.dumps(told))
        return
    if given.nanogpt is None or not (given.nanogpt / "train.py").is_file():
        print("nanoGPT is missing: --nanogpt PATH, a checkout with data/shakespeare_char prepared", file=sys.stderr)
        given.nanogpt = None
    if given.data is None or not given.data.is_file():
        print("the text is missing: --data FILE, tinyshakespeare's input.txt", file=sys.stderr)
        given.data = None
    if given.only_identical:
        given.steps = min(given.steps, 300)
    found: dict[str, list[dict[str, float]]] = {}
    for number in range(given.rounds):
        print(f"round {number + 1} of {given.rounds}", file=sys.stderr)
        if given.nanogpt:
            found.setdefault("nanogpt", []).append(theirs(given.nanogpt.resolve(), given.steps, given.threads))
        if given.data:
            steps = min(given.steps, 300)
            for side in ("identical", "torch", "bfloat16"):
                found.setdefault(side, []).append(_apart(side, given.data, steps, given.threads))
        if given.data and not given.only_identical:
            found.setdefault("to 1.88", []).append(to_loss(given.data.resolve(), given.threads))
        if not given.only_identical:
            found.setdefault("peak", []).append(_apart("peak", None, 0, given.threads))
        print(json.dumps({side: rounds[-1] for side, rounds in found.items()}), file=sys.stderr)
    shown = f"python bench/train.py --nanogpt PATH --data FILE --rounds {given.rounds} --threads {given.threads}"
    shown += " --only-identical" if given.only_identical else ""
    table = report(found, given.threads, shown)
    print(table)
    if given.out:
        given.out.write_text(table, encoding="utf-8")


if __name__ == "__main__":
    main()
