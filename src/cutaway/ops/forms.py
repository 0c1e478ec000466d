"""Which form of each replaceable function runs: a frozen value of callables, handed down in the `Context`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from cutaway.ops.attend import attend_readable, attend_sdpa


@dataclass(frozen=True, kw_only=True)
class Forms:
    attend: Callable[..., Tensor] = attend_sdpa


FAST = Forms()
READABLE = Forms(attend=attend_readable)
