"""A model to a Hugging Face folder that other programs load: config.json and model.safetensors, or shards and an index.

Each file appears whole or not at all; config.json, which makes a folder a model, comes last.
Read next: weights/huggingface.py
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from cutaway.base.paths import atomic
from cutaway.ops.packed import Packed
from cutaway.weights.architectures.architecture import Architecture, Model, Spec
from cutaway.weights.architectures.place import place_of
from cutaway.weights.architectures.table import home_of
from cutaway.weights.assemble import parameters_of
from cutaway.weights.checkpoint import INDEX, SINGLE
from cutaway.weights.huggingface import CONFIG
from cutaway.weights.parameters import held, plain

SHARD = 5 * 10**9  # bytes; what transformers splits at
STALE = re.compile(r"model(-\d{5}-of-\d{5})?\.safetensors(\.index\.json)?")

Group = tuple[str, list[str]]  # a tensor's name in the file, and our parameters that it holds


def write_folder(
    module: Model,
    spec: Spec,
    folder: str | Path,
    *,
    extra: Mapping[str, Any] | None = None,
    shard: int = SHARD,
) -> None:
    """Writes a folder that transformers loads with equal logits, in the module's own precision.

    `extra`: further fields for config.json, such as `eos_token_id`; `shard`: the most bytes in one file. Weights of an
    earlier model in the folder are replaced, everything else in it is left alone. Raises BadInput for a model that no
    known architecture can hold.
    """
    folder = Path(folder)
    architecture, config = home_of(spec)
    table = held(module, "embedding.weight")
    dtype = torch.float32 if isinstance(table, Packed) else table.dtype
    shards = _split(_groups(spec, architecture), module, shard)
    names = (
        [SINGLE] if len(shards) == 1 else [f"model-{n:05}-of-{len(shards):05}.safetensors" for n in _from_one(shards)]
    )
    for file, groups in zip(names, shards, strict=True):
        tensors = {held: _held(module, architecture, ours) for held, ours in groups}
        with atomic(folder / file) as partial:
            save_file(tensors, partial, metadata={"format": "pt"})
    keep = {*names, CONFIG}
    if len(shards) > 1:
        keep.add(INDEX)
        weight_map = {held: file for file, groups in zip(names, shards, strict=True) for held, _ in groups}
        total = sum(_bytes(module, ours) for groups in shards for _, ours in groups)
        _write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})
    for file in folder.iterdir():
        if STALE.fullmatch(file.name) and file.name not in keep:
            file.unlink()
    kind = str(dtype).removeprefix("torch.")
    told = {"architectures": [architecture.made_by], **(extra or {}), **config, "torch_dtype": kind, "dtype": kind}
    _write_json(folder / CONFIG, told)


def _groups(spec: Spec, architecture: Architecture) -> list[Group]:
    """The file's tensors, each with those of our parameters that it holds, in order of their parts."""
    groups: dict[str, list[str]] = {}
    drop = architecture.prefix if architecture.bare(spec) else ""
    for ours in parameters_of(spec):
        groups.setdefault(place_of(architecture.names, ours).name.removeprefix(drop), []).append(ours)
    for name, members in groups.items():
        members.sort(key=lambda ours: place_of(architecture.names, ours).part)
        assert len(members) == place_of(architecture.names, members[0]).part[1], name
    return list(groups.items())


def _split(groups: list[Group], module: Model, most: int) -> list[list[Group]]:
    """Fills one file after the other; a tensor larger than `most` gets its own."""
    shards: list[list[Group]] = [[]]
    room = most
    for name, ours in groups:
        size = _bytes(module, ours)
        if size > room and shards[-1]:
            shards.append([])
            room = most
        shards[-1].append((name, ours))
        room -= size
    return shards


def _held(module: Model, architecture: Architecture, ours: list[str]) -> Tensor:
    """One tensor of the file, from our parameters."""
    place = place_of(architecture.names, ours[0])
    return place.put([plain(held(module, name)).cpu() for name in ours], head_dim=1).contiguous()


def _bytes(module: Model, ours: list[str]) -> int:
    whole = [held(module, name) for name in ours]
    return sum(math.prod(one.shape) * (4 if isinstance(one, Packed) else one.element_size()) for one in whole)


def _from_one(items: list) -> range:
    return range(1, len(items) + 1)


def _write_json(path: Path, data: dict[str, Any]) -> None:
    with atomic(path) as partial:
        partial.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
