"""All that a list of kernels points to is kept by its plan, or by whoever told it of a cache."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterable, Iterator
from types import FunctionType
from typing import Any

import numpy as np
import pytest
import torch
from tests.infer import quantising, test_kernel_experts, test_kernel_latent
from torch import Tensor, nn

from cutaway.infer import kernel_steps
from cutaway.infer.continuation import Continuation
from cutaway.infer.engine import Engine
from cutaway.infer.kernel_plan import Plan
from cutaway.infer.kernel_reach import rooms
from cutaway.infer.request import Request
from cutaway.models.decoder import DecoderModel
from cutaway.ops.cpu.build import kernels
from cutaway.ops.cpu.list import Operations
from cutaway.ops.forms import NAMED

pytestmark = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")

TOLD = {"dtype": torch.float32, "device": torch.device("cpu")}
MODELS = {
    **{family: lambda family=family: quantising.decoder(family, ("q4_1", "q8_0")) for family in quantising.FAMILIES},
    **{
        name: lambda mixer=mixer: test_kernel_latent.decoder(mixer, "q8_0")
        for name, mixer in test_kernel_latent.VARIANTS.items()
    },
    "latent, plain weights": lambda: test_kernel_latent.decoder(test_kernel_latent.PLAIN),
    **{name: lambda feed=feed: test_kernel_experts.decoder(feed) for name, feed in test_kernel_experts.FEEDS.items()},
}


def kept(*roots: object) -> Iterator[Any]:
    """All tensors, arrays and C structures that these keep by themselves: not through a module, whose parts may be
    replaced, and whose packed matrices let go of their copies."""
    left, seen = list(roots), {}
    while left:
        one = left.pop()
        if id(one) in seen or isinstance(one, nn.Module | type | ctypes.CDLL | str | int | float):
            continue
        seen[id(one)] = one
        if isinstance(one, Tensor | np.ndarray | ctypes.Structure | ctypes.Array):
            yield one
        left += (one.__closure__ or ()) if isinstance(one, FunctionType) else gc.get_referents(one)


def spans(found: Iterable[Any]) -> list[tuple[int, int]]:
    """Where their memory begins and ends."""
    made = []
    for one in found:
        if isinstance(one, Tensor):
            storage = one.untyped_storage()
            start, size = storage.data_ptr(), storage.nbytes()
        elif isinstance(one, np.ndarray):
            start, size = one.ctypes.data, one.nbytes
        else:
            start, size = ctypes.addressof(one), ctypes.sizeof(one)
        made.append((start, start + size))
    return made


def addresses(told: Any, name: str = "") -> Iterator[tuple[str, int]]:
    """The addresses in a structure, or in those that an array is of, but for functions'."""
    if isinstance(told, ctypes.Array):
        if issubclass(told._type_, ctypes.Structure):
            for one in told:
                yield from addresses(one, name)
        elif told._type_ is ctypes.c_void_p:
            yield from ((name, one) for one in told if one)
    elif isinstance(told, ctypes.Structure):
        for field, kind, *_ in told._fields_:
            value = getattr(told, field)
            if kind is ctypes.c_void_p and value and field != "work":
                yield f"{name}{type(told).__name__}.{field}", value
            elif isinstance(value, ctypes.Structure):
                yield from addresses(value, f"{name}{type(told).__name__}.{field}.")


def lost(told: Iterable[Any], memory: list[tuple[int, int]]) -> set[str]:
    """Which of their addresses lie in none of this memory."""
    return {
        name
        for one in told
        for name, address in addresses(one)
        if not any(start <= address < end for start, end in memory)
    }


def of_plan(plan: Plan) -> tuple[list[Any], list[tuple[int, int]]]:
    """What a plan's operations are told, and the memory that the plan keeps: its own, and the weights' as they are."""
    held = {name: one for name, one in vars(plan).items() if name != "weights"}
    found = list(kept(held, plan.weights.tensors))
    lists = [one for one in (*plan.segments, *([] if plan.head is None else plan.head)) if isinstance(one, Operations)]
    told = [one for operations in lists for one in (*operations.structures, *operations._arguments)]
    # What `kept` holds is whoever's that runs a pass.
    tables = [one for one in found if isinstance(one, ctypes.Array) and one is not plan.kept]
    return [*told, *tables], spans(found)


@pytest.mark.parametrize("forms", ["kernels", "kernels-int8"])
@pytest.mark.parametrize("name", MODELS)
def test_a_plan_keeps_all_that_its_lists_point_to(name, forms):
    module: DecoderModel = MODELS[name]()
    held = Continuation(module, NAMED[forms], **TOLD)
    held.feed(list(range(1, 20)))
    assert held.steps is not None
    (plan,) = held.steps.shelf.idle
    if plan.head is not None:
        plan.head[1].out.y = None  # the last pass's logits: each pass says where its own go
    told, memory = of_plan(plan)
    assert len([address for one in told for address in addresses(one)]) > 40
    assert not lost(told, memory)


@pytest.mark.parametrize("name", ["llama", "gemma", "sinks", "latent"])
def test_who_runs_a_pass_keeps_the_caches_that_it_tells_of(name):
    module: DecoderModel = MODELS[name]()
    held, engine = Continuation(module, NAMED["kernels"], **TOLD), Engine(module, forms=NAMED["kernels"])
    for first in (1, 30):  # the second time buffers have grown
        held.feed(list(range(first, 90)))
        engine.answer([Request(prompt=(first, 2, 3))])
        for user in (held.steps, engine.runner.steps):
            assert user is not None
            whole, places = rooms(module)
            ctypes.memmove(whole, user._kept, len(user._kept))
            own = {name: one for name, one in vars(user).items() if name != "shelf"}
            assert all(len(set(addresses(place))) > 2 for place in places)
            assert not lost(places, spans(kept(own, kernel_steps.START)))
