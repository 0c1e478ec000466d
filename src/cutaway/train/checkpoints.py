"""Checkpoints of a run: folders that appear whole or not at all, with a checksum for each file.

    checkpoints/step-00000100/   manifest.json   state.json   module.safetensors   optimiser.safetensors ...
Each top-level name of the state has its own tensors file. The last `keep` and the best are kept; an old one goes only
when the new one stands. One that was damaged on the disk is told by its checksums, and the one before it takes its
place.   Read next: train/state.py, train/run.py
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from cutaway.base.errors import BadInput
from cutaway.base.paths import atomic
from cutaway.train.state import join, split

FORMAT = 1
MANIFEST, STATE = "manifest.json", "state.json"
NAMED = re.compile(r"step-(\d{8,})")
LEFT_OVER = re.compile(r"\.step-\d{8,}.*\.(partial|old)")


class Checkpoints:
    """The checkpoints in a folder. `keep`: how many of the latest stay, besides the one of the lowest score."""

    def __init__(self, folder: Path, keep: int = 2):
        if keep < 1:
            raise BadInput(f"must be at least 1, is {keep}", field="keep")
        self.folder, self.keep = folder, keep

    def steps(self) -> list[int]:
        """The steps of which there is a checkpoint, in order."""
        if not self.folder.is_dir():
            return []
        found = [NAMED.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted(int(match[1]) for match in found if match)

    def place(self, step: int) -> Path:
        return self.folder / f"step-{step:08}"

    def save(self, step: int, state: dict[str, Any], score: float | None = None) -> Path:
        """Writes the state after `step`; `score` (lower is better, the validation loss) decides which is the best."""
        with atomic(self.place(step)) as partial:
            partial.mkdir()
            plain = {}
            for name, value in state.items():
                tensors, plain[name] = split(value)
                if tensors:
                    save_file(tensors, partial / f"{name}.safetensors")
            (partial / STATE).write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
            files = {path.name: _seal(path) for path in sorted(partial.iterdir())}
            manifest = {"format": FORMAT, "step": step, "score": score, "files": files}
            (partial / MANIFEST).write_text(json.dumps(manifest, indent=2), encoding="utf-8")
            _seal(partial / MANIFEST)
        self._thin()
        return self.place(step)

    def load(self, step: int) -> dict[str, Any]:
        """The state that `save` wrote. Raises BadInput where any file is missing, damaged or of a later format."""
        place = self.place(step)
        manifest = self._manifest(step)
        for name, told in manifest["files"].items():
            if not (place / name).is_file():
                raise BadInput("is missing", source=place / name)
            if _digest(place / name) != told:
                raise BadInput("is damaged: its checksum is not the one it was written with", source=place / name)
        try:
            plain = json.loads((place / STATE).read_text(encoding="utf-8"))
            state = {}
            for name, value in plain.items():
                file = place / f"{name}.safetensors"
                state[name] = join(load_file(file) if file.exists() else {}, value)
            return state
        except (ValueError, OSError, SafetensorError) as error:
            raise BadInput(f"cannot be read: {error}", source=place) from error

    def latest(self, say: Callable[[str], None]) -> tuple[int, dict[str, Any]] | None:
        """The last whole checkpoint, as (step, state); None where there is none yet. `say` hears of damaged ones.

        Raises BadInput if there are checkpoints and all are damaged.
        """
        steps = self.steps()
        for step in reversed(steps):
            try:
                return step, self.load(step)
            except BadInput as error:
                say(f"the checkpoint of step {step} is passed over: {error}")
        if steps:
            raise BadInput("no checkpoint in it is whole", source=self.folder)
        return None

    def best(self) -> int | None:
        """The step of the lowest score; None where none has one."""
        scores = [(self._score(step), step) for step in self.steps()]
        return min(((score, step) for score, step in scores if score is not None), default=(None, None))[1]

    def clear(self) -> None:
        """Removes what killed processes left behind."""
        for path in self.folder.glob(".step-*"):
            if LEFT_OVER.fullmatch(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def _thin(self) -> None:
        steps, best = self.steps(), self.best()
        for step in steps[: -self.keep]:
            if step != best:
                # Renamed first: one that is half deleted must not look like one that is damaged.
                aside = self.folder / f".step-{step:08}-{secrets.token_hex(4)}.old"
                self.place(step).rename(aside)
                shutil.rmtree(aside, ignore_errors=True)

    def _manifest(self, step: int) -> dict[str, Any]:
        path = self.place(step) / MANIFEST
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            sound = isinstance(manifest["files"], dict) and isinstance(manifest["format"], int)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput("cannot be read", source=path) from error
        if not sound:
            raise BadInput("cannot be read", source=path)
        if manifest["format"] > FORMAT:
            raise BadInput(f"was written by a later version (format {manifest['format']})", source=path)
        return manifest

    def _score(self, step: int) -> float | None:
        try:
            score = self._manifest(step)["score"]
        except (BadInput, KeyError):
            return None
        return score if isinstance(score, (int, float)) and score == score else None


def _seal(path: Path) -> dict[str, Any]:
    """Brings a file to the disk itself, so that a loss of power loses none that a newer one relies on."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())
    return _digest(path)


def _digest(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
