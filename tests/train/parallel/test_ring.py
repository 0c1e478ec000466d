"""The ring's sum is the library's, to the bit where numbers are whole; what it puts on the wire is what it should."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from cutaway.train.parallel.ring import Ring, bytes_on_the_wire

SIZES = [(7,), (8, 3), (1,), (0,), (1000,)]  # also fewer numbers than processes, and none


def work(fleet, folder):
    results = []
    for size in SIZES:
        generator = torch.Generator().manual_seed(dist.get_rank())
        own = torch.randint(100, size, generator=generator).double()
        library = own.clone()
        dist.all_reduce(library)
        ring = Ring()
        summed = ring.all_reduce(own.clone())
        scattered = ring.reduce_scatter(own.clone()).clone()
        mine = ring.chunks(library)[ring.place]
        results.append({"ours": summed, "theirs": library, "chunk": scattered, "mine": mine.clone()})
        ring = Ring()
        ring.all_reduce(own.clone())
        results[-1]["sent"] = ring.sent
    return results


def check(results) -> None:
    for place, size in enumerate(SIZES):
        numbers = 8 * torch.Size(size).numel()
        for result in results:
            assert torch.equal(result[place]["ours"], result[place]["theirs"])
            assert torch.equal(result[place]["chunk"], result[place]["mine"])
            # Chunks may differ by one number of 8 bytes, in each of the two halves.
            assert abs(result[place]["sent"] - bytes_on_the_wire(numbers, len(results))) <= 16
        assert sum(result[place]["sent"] for result in results) == 2 * (len(results) - 1) * numbers


def test_two_processes(processes):
    check(processes(__file__, work, data=2))


@pytest.mark.proof
def test_four_processes(processes):
    check(processes(__file__, work, data=4))


def test_what_each_sends_hardly_grows_with_their_number():
    assert [bytes_on_the_wire(1000, count) for count in (1, 2, 4, 1000)] == [0, 1000, 1500, 1998]
