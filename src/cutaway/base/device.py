"""Which device a tensor lives on when nobody said: cuda, then mps, then cpu.

Read next: base/seeds.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean

if TYPE_CHECKING:
    import torch

KNOWN = ("cpu", "cuda", "mps", "meta")


def pick_device(device: str | torch.device | None = None) -> str:
    """The name of the device to use: what was asked for ("cuda:1"), or else the fastest kind that this machine has.

    Raises BadInput for a kind that Cutaway does not know and for a device that this machine does not have.
    """
    import torch  # here and not above: base never imports torch by itself

    if device is None:
        if torch.cuda.is_available():
            return "cuda"
        return "mps" if torch.backends.mps.is_available() else "cpu"

    name = str(device)
    kind, _, number = name.partition(":")
    if kind not in KNOWN:
        raise BadInput(f'unknown device "{name}"{did_you_mean(kind, KNOWN)}', source="device")
    if ":" in name and not number.isdecimal():
        raise BadInput(f'"{name}" is no device: a number follows the colon', source="device")
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(kind)
    if count is not None and int(number or 0) >= count:
        raise BadInput(f'this machine has no device "{name}" (it has {count} of kind {kind})', source="device")
    return name
