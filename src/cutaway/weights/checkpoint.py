"""The tensors of a folder: one model.safetensors, or several shards and an index. Memory-mapped, read one by one.

Pickled weights (pytorch_model.bin) are refused: opening a pickle runs whatever code it holds.
Read next: weights/huggingface.py
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

from cutaway.base.errors import BadInput, NotFound
from cutaway.weights.fields import parse_object
from cutaway.weights.header import Entry, read_header

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
INDEX_BYTES = 2**26


class Checkpoint:
    """`entries`: what the headers say of each tensor. Every header was checked against its file when this was made.

    Use it in a `with` block: the files stay mapped until its end.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.files = _files(folder)
        headers = {file: read_header(folder / file) for file in sorted(set(self.files.values()))}
        if not self.files:
            self.files = dict.fromkeys(headers.setdefault(SINGLE, read_header(folder / SINGLE)), SINGLE)
        self.entries: dict[str, Entry] = {}
        for name, file in self.files.items():
            if name not in headers[file]:
                raise BadInput(f"{file} has no such tensor", source=folder / INDEX, field=f"weight_map.{name[:200]}")
            self.entries[name] = headers[file][name]
        self._open: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *error: object) -> None:
        self._open.clear()
        self._stack.close()

    def path_of(self, name: str) -> Path:
        """The file that holds a tensor."""
        return self.folder / self.files[name]

    def tensor(self, name: str) -> Tensor:
        """A tensor as the file holds it, in the file's precision; its pages may belong to the mapping."""
        file = self.files[name]
        try:
            if file not in self._open:
                self._open[file] = self._stack.enter_context(safe_open(self.folder / file, framework="pt"))
            return self._open[file].get_tensor(name)
        except (SafetensorError, OSError) as error:
            message = f"cannot be read: {str(error).splitlines()[0]}"
            raise BadInput(message, source=self.folder / file, field=name[:200]) from error


def _files(folder: Path) -> dict[str, str]:
    """Which shard holds each tensor, as the index says; empty where one file holds all."""
    if (folder / SINGLE).is_file():
        return {}
    if (folder / INDEX).is_file():
        return _read_index(folder)
    if not folder.is_dir():
        raise NotFound(f"{folder}: no such folder")
    for file in sorted(folder.iterdir()):
        if file.suffix in PICKLED:
            message = f"pickled weights can run code when they are opened, and are refused: a {SINGLE} is needed"
            raise BadInput(message, source=file)
    raise NotFound(f"{folder}: no {SINGLE} and no {INDEX}")


def _read_index(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    if path.stat().st_size > INDEX_BYTES:
        raise BadInput(f"larger than {INDEX_BYTES} bytes", source=path)
    weight_map = parse_object(path.read_bytes(), path).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise BadInput("expected an object: tensor name to file name", source=path, field="weight_map")
    for name, file in weight_map.items():
        field = f"weight_map.{name[:200]}"
        if not isinstance(file, str) or not file.endswith(".safetensors"):
            raise BadInput(f"{file!r:.100} is no .safetensors file", source=path, field=field)
        # Shards lie beside the index. The hub's cache links them elsewhere, so the name is judged, not its target.
        if any(sign in file for sign in "/\\:\0"):
            raise BadInput(f"{file!r:.100} leads out of the folder", source=path, field=field)
        if not (folder / file).is_file():
            raise BadInput(f"the shard {file:.100} is missing", source=path, field=field)
    return weight_map
