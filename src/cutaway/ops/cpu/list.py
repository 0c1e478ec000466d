"""Lists of operations: what the kernels of this folder are called through, one at a time or a whole step at once.

Each kernel takes a structure of pointers and sizes. `Operations` keeps such structures, and the tensors that they
point into, and runs them one after the other on all threads (list.cpp). A list holds addresses: it is right for as long
as the tensors stay where they are.
The torch siblings of the two operations that have no file of their own, a product and a sum, stand here as well.
Read next: ops/cpu/list.cpp, ops/cpu/norm.py
"""

# N rows · C columns (inputs) · R outputs

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from ctypes import CDLL, Structure, byref, c_bool, c_float, c_int32, c_int64, c_size_t, c_void_p
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from cutaway.base.errors import CutawayError
from cutaway.ops.cpu.build import library
from cutaway.ops.cpu.pack import Struct as Strips

GROUP = 32
"""Columns that share a scale where activations are bytes."""

TILE = 16
"""Rows that a tile of activations has at most."""


class Step(Structure):
    """An operation's function and its arguments."""

    _fields_ = (("work", c_void_p), ("arguments", c_void_p))


class Activations(Structure):
    """Rows as a matmul reads them (activations.h); all zeros: not wanted."""

    _fields_ = (
        ("floats", c_void_p),
        ("codes", c_void_p),
        ("scales", c_void_p),
        ("totals", c_void_p),
        ("firsts", c_void_p),
        ("rows", c_int32),
        ("groups", c_int32),
    )


class Output(Structure):
    """Where a product goes: y[row * stride + output], on top of what is there if `add`."""

    _fields_ = (("y", c_void_p), ("stride", c_size_t), ("bias", c_void_p), ("add", c_bool))


class Product(Structure):
    """y = x w^T (+ bias) (+ y)."""

    _fields_ = (("w", Strips), ("x", Activations), ("out", Output))


class Together(Structure):
    """One operation with many arguments."""

    _fields_ = (("work", c_void_p), ("arguments", c_void_p), ("count", c_int64))


class Add(Structure):
    """y += scale x."""

    _fields_ = (("x", c_void_p), ("y", c_void_p), ("count", c_int64), ("scale", c_float))


class NoKernels(CutawayError):
    """A kernel was called where there are none: no compiler, another CPU, or CUTAWAY_KERNELS=off."""


def loaded() -> CDLL:
    """The kernels. Raises NoKernels where there are none."""
    found = library()
    if found is None:
        raise NoKernels("there are no compiled kernels here: `cutaway doctor` says why")
    return found


class Operations:
    """A list of operations, in their order. Raises NoKernels where there are none."""

    def __init__(self) -> None:
        self._library = loaded()
        self._names: list[str] = []
        self._functions: list[str] = []
        self._arguments: list[Structure] = []
        self.structures: list[Structure] = []
        """The arguments of all operations, those that are together one by one."""
        self._kept: list[Any] = []
        self._steps: Any = None

    def __len__(self) -> int:
        return len(self._names)

    @property
    def names(self) -> tuple[str, ...]:
        """The operations' names, in their order; "products" are many together."""
        return tuple(self._names)

    def append(self, name: str, arguments: Structure, *keep: Any) -> None:
        """Adds an operation; `keep` is what its pointers point into."""
        self.structures.append(arguments)
        self._append(name, arguments, keep)

    def _append(self, name: str, arguments: Structure, keep: tuple[Any, ...]) -> None:
        self._names.append(name)
        self._functions.append(name)
        self._arguments.append(arguments)
        self._kept.append(keep)
        self._steps = None

    def together(self, name: str, arguments: Sequence[Structure], *keep: Any) -> None:
        """Adds an operation with many arguments, none of which needs what another makes: no thread waits in between."""
        addresses = (c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        work = ctypes.cast(getattr(self._library, name), c_void_p)
        told = Together(work, ctypes.cast(addresses, c_void_p), len(arguments))
        self.structures += arguments
        self._append("together", told, (addresses, arguments, *keep))
        self._names[-1] = f"{name}s"

    def run(self, threads: int | None = None) -> None:
        """Runs all of them; on torch's number of threads if None."""
        if self._steps is None:
            self._steps = (Step * len(self._names))(
                *(
                    Step(ctypes.cast(getattr(self._library, function), c_void_p), ctypes.addressof(arguments))
                    for function, arguments in zip(self._functions, self._arguments, strict=True)
                )
            )
        told = (self._steps, len(self._names), threads or torch.get_num_threads())
        if not _watchers:
            self._library.run_list(*told, None)
            return
        begins = (c_int64 * (len(self._names) + 1))()
        self._library.run_list(*told, begins)
        seconds = [(end - begin) / 1e9 for begin, end in pairwise(begins)]
        for watcher in _watchers:
            watcher(self.names, seconds)


Watcher = Callable[[tuple[str, ...], Sequence[float]], None]
_watchers: list[Watcher] = []


def ran(name: str) -> None:
    """Tells who watches that a kernel ran by itself, whose time nobody took."""
    for watcher in _watchers:
        watcher((name,), ())


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """As long as this lasts `watcher` is told of every list that ran: its operations, and the seconds of each."""
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def alone(name: str, arguments: Structure, *rest: str) -> None:
    """Runs one operation (and `rest` behind it, with the same arguments) by itself."""
    operations = Operations()
    for one in (name, *rest):
        operations.append(one, arguments)
    operations.run()


def pointer(tensor: Tensor | None) -> int | None:
    """Where a tensor's numbers begin; None is the null pointer."""
    return None if tensor is None else tensor.data_ptr()


def address(structure: Structure) -> int:
    """Where a structure lies, for another one that points to it; the caller keeps it alive."""
    return ctypes.addressof(structure)


def floats(tensor: Tensor) -> Tensor:
    """The same as contiguous float32 on the CPU."""
    return tensor.detach().to("cpu", torch.float32).contiguous()


def whole(numbers: Tensor | Any) -> Tensor:
    """Whole numbers as the kernels take them: contiguous int32."""
    return torch.as_tensor(numbers, device="cpu").to(torch.int32).contiguous()


class Laid:
    """Room for rows of activations as a matmul reads them: floats, or bytes where `int8`."""

    def __init__(self, rows: int, columns: int, *, int8: bool):
        groups, most = columns // GROUP, -(-rows // TILE) * TILE
        count = most * groups
        self.numbers = torch.zeros(count * GROUP, dtype=torch.int8 if int8 else torch.float32)
        self.scales = torch.zeros(count if int8 else 0)
        self.sums = torch.zeros(2, count if int8 else 0, dtype=torch.int32)
        address = self.numbers.data_ptr()
        self.structure = (
            Activations(None, address, *map(pointer, (self.scales, self.sums[0], self.sums[1])), rows, groups)
            if int8
            else Activations(address, None, None, None, None, rows, groups)
        )

    def codes(self) -> Tensor:
        """The numbers (N, C) as they lie, in the order of rows and columns again."""
        kernels, told = loaded(), self.structure
        at_NG = [[kernels.laid_at(byref(told), n, g) for g in range(told.groups)] for n in range(told.rows)]
        return self.numbers.view(-1, GROUP)[torch.tensor(at_NG, dtype=torch.long)].flatten(1)

    def rows(self) -> Tensor:
        """What they stand for, (N, C) float32."""
        if self.numbers.dtype == torch.float32:
            return self.codes()
        kernels, told = loaded(), self.structure
        at_NG = [[kernels.laid_at(byref(told), n, g) for g in range(told.groups)] for n in range(told.rows)]
        return self.codes() * self.scales[torch.tensor(at_NG)].repeat_interleave(GROUP, -1)


def product_readable(x_NC: Tensor, w_RC: Tensor, bias_R: Tensor | None = None) -> Tensor:
    """x w^T (+ bias), (N, R); what `product` computes from packed w."""
    return torch.nn.functional.linear(x_NC, w_RC, bias_R)


def add_readable(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """y + scale x."""
    return y + scale * x


def add_kernel(x: Tensor, y: Tensor, scale: float = 1.0) -> Tensor:
    """The same as a kernel; float32."""
    x, out = floats(x), floats(y).clone()
    alone("add", Add(pointer(x), pointer(out), out.numel(), scale))
    return out
