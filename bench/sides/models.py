"""The files that sides answer from: the shipped ones, their weights rounded anew, and one of random numbers.

Read next: synthetic.py
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from sides.synthetic import write_synthetic

import cutaway
from cutaway.weights.shelf import get


def shipped(name: str) -> Callable[[Path], Path]:
    """A model of the shelf, in its own file."""
    return lambda folder: get(name)


def rounded(name: str, quant: str) -> Callable[[Path], Path]:
    """The same with its weights rounded to another form, made once."""

    def made(folder: Path) -> Path:
        file = folder / f"{name}-{quant}.gguf"
        if not file.exists():
            cutaway.save(cutaway.load(name), file, quant=quant)
        return file

    return made


def synthetic(folder: Path) -> Path:
    """A Qwen2 of 1.5 billion random weights, made once: 1 GB."""
    file = folder / "synthetic-1.5b-q4_0.gguf"
    if not file.exists():
        print(f"writing {file}, 1 GB", file=sys.stderr)
        write_synthetic(file)
    return file


def by_llama(name: str, quant: str, number: int) -> Callable[[Path], Path]:
    """The same rounded by llama.cpp, for forms that Cutaway reads and does not write. `number`: its own for the form
    (`llama_ftype`)."""

    def made(folder: Path) -> Path:
        import llama_cpp

        logging.getLogger("llama-cpp-python").setLevel(logging.ERROR)  # hundreds of lines for a file
        file, whole = folder / f"{name}-{quant}.gguf", rounded(name, "f16")
        if not file.exists():
            told = llama_cpp.llama_model_quantize_default_params()
            told.ftype, told.nthread = number, 1
            partial = file.with_suffix(".partial")
            if llama_cpp.llama_model_quantize(str(whole(folder)).encode(), str(partial).encode(), told):
                raise SystemExit(f"llama.cpp did not round {name} to {quant}")
            partial.replace(file)
        return file

    return made
