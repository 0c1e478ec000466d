"""Sharded checkpoints: written by so many processes, read by another number, in files that nothing unpickles."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open

from cutaway.base.errors import BadInput
from cutaway.train.fit import fit
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.parallel.shard import shard
from cutaway.train.parallel.store import read, write
from cutaway.train.schedules import Linear, Scheduled
from cutaway.train.shards import whole

from .models import batch, decoder, near, next_token

BATCHES = [batch(seed, (4, 4)) for seed in range(4)]
SCHEDULE = Linear(steps=10)


def learn(module, objective, optimiser, world, rank: int, steps: range) -> None:
    """Every process sees the same batches, so that their number changes nothing."""
    mine = [BATCHES[step] for step in steps]
    told = {} if world is None else {"world": world}
    list(fit(module, objective, mine, optimiser, steps=steps.stop, start=steps.start, **told))


def state(module, optimiser) -> dict:
    return {"module": module.state_dict(), "optimiser": optimiser.state_dict()}


def save(fleet, folder):
    module = decoder()
    wrapped, objective = shard(module, next_token(), fleet)
    optimiser = Scheduled(AdamW(rate=0.01).build(module), SCHEDULE)
    learn(wrapped, objective, optimiser, fleet, fleet.place("data"), range(2))
    write(folder / "checkpoint", state(module, optimiser))
    files = sorted(path.name for path in (folder / "checkpoint").iterdir())
    learn(wrapped, objective, optimiser, fleet, fleet.place("data"), range(2, 4))
    weights = {name: whole(weight.detach()) for name, weight in module.named_parameters()}
    return {"weights": weights, "files": files, "folder": str(folder)}


def load(fleet, folder):
    module = decoder()
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    wrapped, objective = shard(module, next_token(), fleet)
    optimiser = Scheduled(AdamW(rate=0.01).build(module), SCHEDULE)
    found = (folder.parent / "at").read_text(encoding="utf-8")
    held = read(type(folder)(found) / "checkpoint", state(module, optimiser))
    optimiser.load_state_dict(held["optimiser"])
    learn(wrapped, objective, optimiser, fleet, fleet.place("data"), range(2, 4))
    return {name: whole(weight.detach()) for name, weight in module.named_parameters()}


@pytest.fixture(scope="module")
def saved(processes):
    return processes(__file__, save, data=2)


def test_one_process_goes_on_where_two_stopped(saved, tmp_path):
    assert saved[0]["files"] and all(name.endswith(".safetensors") for name in saved[0]["files"])
    module = decoder()
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    optimiser = Scheduled(AdamW(rate=0.01).build(module), SCHEDULE)
    folder = type(tmp_path)(saved[0]["folder"]) / "checkpoint"
    held = read(folder, state(module, optimiser))
    optimiser.load_state_dict(held["optimiser"])
    assert optimiser.count == 2
    assert held["optimiser"]["embedding.weight.count"] == 2
    learn(module, next_token(), optimiser, None, 0, range(2, 4))
    near({name: weight.detach() for name, weight in module.named_parameters()}, saved[0]["weights"])


@pytest.mark.proof
def test_four_processes_go_on_where_two_stopped(saved, processes, tmp_path_factory):
    (tmp_path_factory.getbasetemp() / "at").write_text(saved[0]["folder"], encoding="utf-8")
    for weights in processes(__file__, load, data=4):
        near(weights, saved[0]["weights"])


def test_one_process_writes_and_reads_without_any_group(tmp_path):
    module = decoder()
    optimiser = AdamW().build(module)
    write(tmp_path / "checkpoint", state(module, optimiser))
    other = decoder().requires_grad_(True)
    with torch.no_grad():
        for weight in other.parameters():
            weight.zero_()
    read(tmp_path / "checkpoint", {"module": other.state_dict()})
    near(other.state_dict(), module.state_dict())
    for path in (tmp_path / "checkpoint").iterdir():
        with safe_open(path, "pt") as file:
            assert "module.norm.weight" in file.keys()  # noqa: SIM118 (it is no dict)


def test_what_does_not_fit_is_refused(tmp_path):
    module = decoder()
    write(tmp_path / "checkpoint", {"module": module.state_dict()})
    with pytest.raises(BadInput, match="does not hold this state"):
        read(tmp_path / "checkpoint", {"module": {"strange": torch.zeros(2)}})
    with pytest.raises(BadInput, match="does not hold this state"):
        read(tmp_path / "checkpoint", {"module": {"norm.weight": torch.zeros(3, dtype=torch.float64)}})
    with pytest.raises(BadInput, match="no sharded checkpoint"):
        read(tmp_path / "other", {"module": module.state_dict()})
    with pytest.raises(BadInput, match="something already"):
        write(tmp_path / "checkpoint", {"module": module.state_dict()})
