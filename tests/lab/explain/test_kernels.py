from __future__ import annotations

from cutaway.lab.explain.kernels import KERNEL_ENTRIES
from cutaway.lab.explain.table import find


def test_both_are_found_by_their_other_names_too():
    assert [one.name for one in KERNEL_ENTRIES] == ["roofline", "cpu-kernels"]
    assert find("memory bound") is find("屋顶线") is KERNEL_ENTRIES[0]
    assert find("VNNI") is find("向量化") is KERNEL_ENTRIES[1]


def test_a_model_in_4_bits_reads_a_seventh():
    *_, full, packed = KERNEL_ENTRIES[0].cost()
    assert 7.1 < full.result / packed.result < 7.12
