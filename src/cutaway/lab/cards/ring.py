"""A ring all-reduce sends 2 (p - 1) / p of the buffer from each process, however many processes there are.

Patarasuk and Yuan 2009 (J. Parallel Distrib. Comput. 69), section 3.
Real processes talk here, over gloo on this machine; each counts the bytes that it gave to send.
Read next: train/parallel/ring.py
"""

from __future__ import annotations

import multiprocessing
import tempfile
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from cutaway.base.errors import CutawayError
from cutaway.lab.card import Card, Finding, Near
from cutaway.train.parallel.ring import Ring

NUMBERS = 120_000  # float32; 2 and 4 divide it, so that every chunk has as many
PATIENCE = 120  # seconds that processes may take on a very busy machine


def measured(processes: int) -> list[tuple[float, float]]:
    """Of each process: the bytes it sent over those of the buffer, and the largest error of the sum it ended with.

    Raises CutawayError where the processes do not come to an end.
    """
    spawn = multiprocessing.get_context("spawn")
    answers: Any = spawn.SimpleQueue()
    with tempfile.TemporaryDirectory() as folder:
        meeting = (Path(folder) / "meeting").as_uri()
        started = [
            spawn.Process(target=_one, args=(rank, processes, meeting, answers), daemon=True)
            for rank in range(processes)
        ]
        try:
            for one in started:
                one.start()
            for one in started:
                one.join(PATIENCE)
            if any(one.exitcode != 0 for one in started):
                raise CutawayError("the processes of the ring did not come to an end")
        finally:
            for one in started:
                if one.is_alive():
                    one.kill()
    return [answers.get() for _ in range(processes)]


def _one(rank: int, size: int, meeting: str, answers: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    try:
        buffers = [torch.randn(NUMBERS, generator=torch.Generator().manual_seed(seed)) for seed in range(size)]
        ring = Ring()
        summed = ring.all_reduce(buffers[rank].clone())
        error = float((summed - torch.stack(buffers).sum(0)).abs().max())
        answers.put((ring.sent / summed.nbytes, error))
    finally:
        dist.destroy_process_group()


def _compute() -> tuple[Finding, ...]:
    findings = []
    for processes in (2, 4):
        sent, errors = zip(*measured(processes), strict=True)
        paper = 2 * (processes - 1) / processes
        what = f"{processes} processes: bytes sent over the buffer's"
        findings.append(Finding(what=what, expected=Near(value=paper, tolerance=1e-9), ours=max(sent)))
        # Float32 sums of a few numbers of size 1, added in another order.
        what = f"{processes} processes: the sum is right"
        findings.append(Finding(what=what, expected=Near(value=1), ours=float(max(errors) < 1e-5)))
    return tuple(findings)


CARD = Card(
    name="ring-all-reduce-bytes",
    claim="A ring all-reduce sends 2 (p - 1) / p of the buffer from each of p processes, the least possible.",
    source="Patarasuk and Yuan 2009, Bandwidth optimal all-reduce algorithms, section 3",
    computed="bytes that 2 and 4 real processes gave to send, and whether each ended with the sum",
    tolerance="none: bytes are counted",
    seconds=10,
    compute=_compute,
)
