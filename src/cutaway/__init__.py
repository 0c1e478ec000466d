"""Cutaway: the whole LLM stack, working, with the casing cut away."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["__version__", "load", "save"]

if TYPE_CHECKING:
    from cutaway.infer.load import load
    from cutaway.infer.save import save

_HOMES = {"load": "cutaway.infer.load", "save": "cutaway.infer.save"}


def __getattr__(name: str) -> Any:
    # Lazy (PEP 562), so that `import cutaway` and `cutaway --help` do not import torch.
    if name in _HOMES:
        from importlib import import_module

        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cutaway' has no attribute {name!r}")
