"""What `cutaway plan` says of memory, beside what two processes hold when they train so.

    python bench/plan.py [--json] [--out FILE]

A small decoder, copied (ddp) and sharded (zero-3) over two gloo processes of this machine; each makes one step and
counts the pieces of memory behind its weights, gradients, Adam's means, and what the forward pass saved.
Read next: lab/plan.py, lab/residue.py
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from datetime import date
from pathlib import Path
from typing import Any

KINDS = ("weights", "gradients", "state", "activations")
ROWS, LENGTH, VOCAB = 4, 64, 500  # sequences of a process, tokens of a sequence


def spec() -> Any:
    from cutaway.models.decoder import Decoder
    from cutaway.nn.attention.grouped import GroupedQuery
    from cutaway.nn.block import Block
    from cutaway.nn.feedforward import Gated
    from cutaway.nn.norms import RMSNorm
    from cutaway.nn.positions import Rope

    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=16, rope=Rope(width=16))
    block = Block(mixer=mixer, feed=Gated(hidden=128), before=RMSNorm())
    return Decoder(vocab=VOCAB, dim=64, blocks=(block,) * 4, length=LENGTH, norm=RMSNorm())


def planned() -> dict[str, dict[str, float]]:
    """Bytes of one process by strategy and kind, as the plan has them."""
    from cutaway.lab.plan import Setting, plan

    setting = Setting(devices=2, batch=ROWS, length=LENGTH, precision="float32")
    return {row.strategy: {kind: getattr(row, kind) for kind in KINDS} for row in plan(spec(), setting)}


def measured() -> list[dict[str, dict[str, int]]]:
    """The same from two processes, one entry for each. Raises RuntimeError where one of them fails."""
    with tempfile.TemporaryDirectory() as folder:
        started: list[subprocess.Popen[bytes]] = []
        try:
            for rank in range(2):
                told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "OMP_NUM_THREADS": 1}
                environment = {**os.environ, **{name: str(value) for name, value in told.items()}}
                command = [sys.executable, str(Path(__file__).resolve()), "--process", folder]
                started.append(subprocess.Popen(command, env=environment))
            if any(one.wait(timeout=300) for one in started):
                raise RuntimeError("a process of the measurement failed")
        finally:
            for one in started:
                one.kill()
                one.wait()
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("held.*"))]


def process(folder: Path) -> None:
    """One of the two: trains a step in each way and writes down what it holds."""
    import torch

    from cutaway.data.batch import Batch
    from cutaway.lab.residue import saved_bytes
    from cutaway.train.objectives.causal import Causal
    from cutaway.train.optimisers.adamw import AdamW
    from cutaway.train.parallel.fleet import start
    from cutaway.train.parallel.replicate import replicate
    from cutaway.train.parallel.shard import shard

    fleet = start(rendezvous=(folder / "meet").as_uri())
    held = {}
    for name, divide in (("ddp", replicate), ("zero-3", shard)):
        module = spec().build()
        wrapped, objective = divide(module, Causal(z=1e-4), fleet)
        optimiser = AdamW().build(module)
        ids_N = torch.arange(ROWS * LENGTH) % VOCAB
        batch = Batch(ids_N=ids_N, targets_N=ids_N.roll(-1), lengths=(LENGTH,) * ROWS)
        losses: list[Any] = []
        activations = saved_bytes(lambda made=losses, run=objective, on=wrapped, one=batch: made.append(run(on, one)))
        activations += _out_of_sight(losses[0].total.grad_fn)
        losses[0].total.backward()
        optimiser.step()
        state = [one for one in optimiser.state_dict().values() if isinstance(one, torch.Tensor)]
        held[name] = {
            "weights": _bytes(weight.detach() for weight in module.parameters()),
            "gradients": _bytes(weight.grad for weight in module.parameters()),
            "state": _bytes(state),
            "activations": activations,
        }
    (folder / f"held.{fleet.place('data')}").write_text(json.dumps(held), encoding="utf-8")
    fleet.close()


def _bytes(tensors: Iterable[Any]) -> int:
    """Of the pieces of memory behind them, each counted once; of a sharded tensor this process's part."""
    from cutaway.train.shards import shard as part

    storages = [part(one).untyped_storage() for one in tensors]
    return sum({one._cdata: one.nbytes() for one in storages}.values())


def _out_of_sight(node: Any) -> int:
    """What the chunked loss, the last function before the total, keeps where torch's hooks do not see it."""
    nodes = [node]
    while nodes:
        one = nodes.pop()
        seen = sum(kept.nbytes for kept in getattr(one, "gradients", None) or () if kept is not None)
        if seen:
            return seen
        nodes += [behind for behind, _ in getattr(one, "next_functions", ()) if behind is not None]
    return 0


def page(plans: dict[str, dict[str, float]], held: list[dict[str, dict[str, int]]]) -> str:
    import torch

    from cutaway import __version__
    from cutaway.cli.machine import look

    lines = [
        f"# Memory, planned and held, {date.today()}",
        "",
        f"`python bench/plan.py`; {look().processor}, two gloo processes, {platform.system()}; "
        f"Python {platform.python_version()}, torch {torch.__version__}, cutaway {__version__}.",
        f"A decoder of 4 blocks and dim 64, float32, AdamW, {ROWS} sequences of {LENGTH} tokens in each process; bytes "
        "of the process that holds more.",
        "",
        "| strategy | kind | planned | held | planned / held |",
        "|---|---|---|---|---|",
    ]
    for strategy in held[0]:
        most = {kind: max(one[strategy][kind] for one in held) for kind in KINDS}
        for kind in (*KINDS, "total"):
            plan = sum(plans[strategy].values()) if kind == "total" else plans[strategy][kind]
            real = sum(most.values()) if kind == "total" else most[kind]
            lines.append(f"| {strategy} | {kind} | {plan:,.0f} | {real:,} | {plan / real:.3f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="Planned and held bytes as JSON.")
    parser.add_argument("--out", type=Path, help="Also write the table here.")
    parser.add_argument("--process", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.process is not None:
        process(arguments.process)
        return
    plans, held = planned(), measured()
    if arguments.json:
        print(json.dumps({"planned": plans, "held": held}, indent=1))
        return
    text = page(plans, held)
    if arguments.out:
        from cutaway.base.paths import atomic

        with atomic(arguments.out) as path:
            path.write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
