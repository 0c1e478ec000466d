"""A training state as it lies on disk: tensors in safetensors, everything else in JSON; nothing is ever unpickled.

A state is a tree of dicts, lists and tuples over tensors, numbers, texts, truth values and None.
Read next: train/checkpoints.py
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from cutaway.base.errors import BadInput

TENSOR, PAIRS, TUPLE = "$tensor", "$pairs", "$tuple"  # what JSON has no word for


def split(state: Any) -> tuple[dict[str, Tensor], Any]:
    """The tensors of a state by their place in it ("optimiser.moments.3"), and the rest as plain JSON values.

    Tensors are copied where they share memory with another, since a safetensors file holds each once.
    Raises BadInput for anything that a state may not hold.
    """
    tensors: dict[str, Tensor] = {}
    return tensors, _plain(state, "", tensors)


def join(tensors: Mapping[str, Tensor], plain: Any) -> Any:
    """The state that `split` took apart. Raises BadInput for a tensor that is missing."""
    if isinstance(plain, list):
        return [join(tensors, item) for item in plain]
    if not isinstance(plain, dict):
        return plain
    if TENSOR in plain:
        name = plain[TENSOR]
        if name not in tensors:
            raise BadInput("this tensor is missing", field=str(name))
        return tensors[name]
    if TUPLE in plain:
        return tuple(join(tensors, item) for item in plain[TUPLE])
    if PAIRS in plain:
        return {key: join(tensors, item) for key, item in plain[PAIRS]}
    return {key: join(tensors, item) for key, item in plain.items()}


def _plain(value: Any, where: str, tensors: dict[str, Tensor]) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        tensors[where] = _own(value)
        return {TENSOR: where}
    if isinstance(value, Mapping):
        inner = [(key, _plain(item, _inside(where, key), tensors)) for key, item in value.items()]
        if all(isinstance(key, str) and not key.startswith("$") for key, _ in inner):
            return dict(inner)
        if all(isinstance(key, (str, int)) for key, _ in inner):
            return {PAIRS: [list(pair) for pair in inner]}  # torch's optimisers count parameters from 0
    if isinstance(value, (list, tuple)):
        items = [_plain(item, _inside(where, at), tensors) for at, item in enumerate(value)]
        return {TUPLE: items} if isinstance(value, tuple) else items
    raise BadInput(f"a training state cannot hold a {type(value).__name__}", field=where or None)


def _own(tensor: Tensor) -> Tensor:
    """The tensor on the CPU, contiguous, in memory that nothing else uses."""
    held = tensor.detach().cpu().contiguous()
    shares = held.data_ptr() == tensor.data_ptr() or held.untyped_storage().nbytes() != held.nbytes
    return held.clone() if shares else held


def _inside(where: str, name: object) -> str:
    return f"{where}.{name}" if where else str(name)
