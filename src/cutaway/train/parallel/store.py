"""A training state written by many processes, each its own part, and read by any other number of them.

torch.distributed.checkpoint plans who writes and reads what; the files are safetensors, one for each process, whose
headers say where in the whole each part belongs: nothing is unpickled, and the parts can be opened by hand.
    write(folder, {"module": module.state_dict(), "optimiser": optimiser.state_dict()})
    read(folder, the same)         fills the tensors in place, however they are spread now
Read next: train/parallel/shard.py, train/checkpoints.py (one process)
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from cutaway.base.errors import BadInput, MissingExtra

Number = bool | int | float


def write(folder: Path, state: Mapping[str, Mapping[str, Any]]) -> None:
    """Writes tensors (spread or the same everywhere) and numbers, by their names. All processes call it together.

    It takes a new folder or an empty one. The folder appears under its name once all parts are written, or not at all.
    """
    writer, _ = _storage()
    partial = folder.with_name(f".{folder.name}.partial")
    if _first() and folder.exists():
        raise BadInput("there is something already", source=folder)
    with _quiet():
        save(_flat(state), storage_writer=writer(str(partial), save_distributed=True))
    _wait()
    if _first():
        partial.rename(folder)
    _wait()


def read(folder: Path, state: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Fills the tensors of `state` in place; returns the state, its numbers as they were written.

    Raises BadInput where the folder holds no such state: a name is missing, or a shape is another.
    """
    _, reader = _storage()
    if not any(folder.glob("*.safetensors")):
        raise BadInput("there is no sharded checkpoint here", source=folder)
    flat = _flat(state)
    try:
        with _quiet():
            load(flat, storage_reader=reader(str(folder)))
    except CheckpointException as error:
        reason = str(next(iter(error.failures.values()))[0]).splitlines()[0]
        raise BadInput(f"does not hold this state: {reason}", source=folder) from error
    return {
        part: {name: _back(held, flat[f"{part}.{name}"]) for name, held in names.items()}
        for part, names in state.items()
    }


def _flat(state: Mapping[str, Mapping[str, Any]]) -> dict[str, Tensor]:
    """Every tensor as it is, and every number as a tensor: a safetensors file holds nothing else."""
    return {
        f"{part}.{name}": held if isinstance(held, Tensor) else torch.tensor([float(held)], dtype=torch.float64)
        for part, names in state.items()
        for name, held in names.items()
    }


def _back(held: Tensor | Number, read: Tensor) -> Tensor | Number:
    return held if isinstance(held, Tensor) else type(held)(read.item())


def _storage() -> tuple[Any, Any]:
    try:
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
    except ImportError as error:
        raise MissingExtra("torch 2.9 or later", "train") from error
    return HuggingFaceStorageWriter, HuggingFaceStorageReader


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's remarks that one process without a group saves for itself, which is meant."""
    log = logging.getLogger("torch.distributed.checkpoint")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _first() -> bool:
    return not dist.is_initialized() or dist.get_rank() == 0


def _wait() -> None:
    if dist.is_initialized():
        dist.barrier()
