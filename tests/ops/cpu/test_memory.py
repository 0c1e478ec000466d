"""Tensors of the arena never share a byte, and what is let go is used again."""

from __future__ import annotations

import gc
import random
import sys
import threading
from itertools import count, pairwise
from types import FrameType
from typing import Any

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway.ops.cpu import memory
from cutaway.ops.cpu.memory import ALIGNED, Arena


def held(arena: Arena) -> int:
    return sum(len(piece.memory) - sum(end - start for start, end in piece.free) for piece in arena.pieces)


@settings(max_examples=40)
@given(st.lists(st.integers(0, 9000), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_tensors_keep_their_numbers_while_others_come_and_go(sizes, draw: random.Random):
    arena = Arena(piece=16384)
    kept: dict[int, torch.Tensor] = {}
    for number, size in enumerate(sizes):
        kept[number] = arena.empty(size, dtype=torch.uint8).fill_(number)
        if draw.random() < 0.5:
            del kept[draw.choice(list(kept))]
        assert all(bool((tensor == other).all()) for other, tensor in kept.items())
        assert all(tensor.data_ptr() % ALIGNED == 0 for tensor in kept.values())
    assert held(arena) >= sum(one.numel() for one in kept.values())
    kept.clear()
    assert held(arena) == 0 and not arena.pieces


def test_a_view_keeps_the_memory():
    arena = Arena(piece=8192)
    view = arena.empty(64, 16, dtype=torch.float32).fill_(3)[10:12]
    other = arena.empty(64, 8, dtype=torch.float32).fill_(5)
    assert bool((view == 3).all()) and bool((other == 5).all())
    del view
    gc.collect()
    assert held(arena) == other.nbytes


def test_neighbours_become_one_run_again():
    arena = Arena(piece=4096)
    first, second, third = (arena.empty(1024, dtype=torch.uint8) for _ in range(3))
    del first, third
    del second
    whole = arena.empty(4096, dtype=torch.uint8)
    assert len(arena.pieces) == 1 and whole.numel() == 4096


def test_what_is_larger_than_a_piece_gets_its_own():
    arena = Arena(piece=4096)
    assert arena.empty(3, 5000, dtype=torch.float16).shape == (3, 5000)


def test_threads_take_different_memory():
    arena, faults = Arena(piece=1 << 16), []

    def work(number: int) -> None:
        for _ in range(100):
            tensors = [arena.empty(700, dtype=torch.uint8).fill_(number) for _ in range(5)]
            faults.extend(1 for one in tensors if not bool((one == number).all()))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gc.collect()
    assert not faults and held(arena) == 0


class At:
    """Runs `then` before instruction number `moment` of the arena's own code, as a collection of garbage would."""

    def __init__(self, moment: int, then):
        self.left, self.then, self.before = moment, then, sys.gettrace()

    def trace(self, frame: FrameType, event: str, told: Any) -> Any:
        if frame.f_code.co_filename != memory.__file__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode":
            self.left -= 1
            if self.left == 0:
                self.then()
        return self.trace

    def __enter__(self) -> At:
        sys.settrace(self.trace)
        return self

    def __exit__(self, *told: Any) -> None:
        sys.settrace(self.before)


def test_what_is_let_go_in_the_midst_of_the_arena_is_free_once():
    """Between any two instructions of taking memory and of giving it back: nobody else has it, and none is lost."""
    for moment in count(1):
        arena = Arena(piece=16 * ALIGNED)
        size = 2 * ALIGNED
        kept = {at: arena.empty(ALIGNED if at == 1 else size, dtype=torch.uint8) for at in range(8)}
        del kept[1], kept[6]  # the first free run is too small
        going = {at: kept.pop(at) for at in (0, 3)}
        with At(moment, going.clear) as here:
            fresh = [arena.empty(size, dtype=torch.uint8)]
            del kept[5]
        going.clear()
        fresh += [arena.empty(ALIGNED, dtype=torch.uint8) for _ in range(8)]  # all that there is
        assert len(arena.pieces) == 1, moment
        spans = sorted((one.data_ptr(), one.data_ptr() + one.nbytes) for one in (*kept.values(), *fresh))
        assert all(end <= start for (_, end), (start, _) in pairwise(spans)), moment
        assert held(arena) == sum(one.nbytes for one in (*kept.values(), *fresh)), moment
        kept.clear()
        fresh.clear()
        assert not arena.pieces, moment
        if here.left > 0:  # there are no more instructions
            assert moment > 100
            return
