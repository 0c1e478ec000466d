from __future__ import annotations

import pytest
import torch

from cutaway.base.device import pick_device
from cutaway.base.errors import BadInput


@pytest.fixture
def machine(monkeypatch):
    def has(cuda: int, mps: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return has


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(2, True, "cuda"), (1, False, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_none_picks_cuda_then_mps_then_cpu(machine, cuda, mps, expected):
    machine(cuda, mps)
    assert pick_device() == expected


def test_what_was_asked_for_is_kept(machine):
    machine(2, True)
    for name in ("cpu", "cpu:0", "cuda", "cuda:1", "mps", "meta"):
        assert pick_device(name) == name
        assert pick_device(torch.device(name)) == name


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_a_device_this_machine_lacks_is_refused(machine, name):
    machine(0, False)
    with pytest.raises(BadInput, match=f'no device "{name}"'):
        pick_device(name)


def test_a_number_beyond_the_last_is_refused(machine):
    machine(2, False)
    with pytest.raises(BadInput, match='no device "cuda:2"'):
        pick_device("cuda:2")


@pytest.mark.parametrize("name", ["cuda:", "cuda:x", "cuda:-1"])
def test_what_follows_the_colon_is_a_number(machine, name):
    machine(2, False)
    with pytest.raises(BadInput, match="number"):
        pick_device(name)


def test_an_unknown_kind_gets_the_nearest_known_one():
    with pytest.raises(BadInput, match='unknown device "cudda"; did you mean "cuda"'):
        pick_device("cudda")
