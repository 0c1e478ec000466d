"""Tensors of the arena never share a byte, and what is let go is used again."""

from __future__ import annotations

import gc
import random
import threading

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
