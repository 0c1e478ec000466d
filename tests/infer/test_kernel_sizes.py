from __future__ import annotations

import pytest
from tests.infer.quantising import decoder

from cutaway.infer.kernel_plan import Plan
from cutaway.infer.kernel_sizes import MOST, fill, ints
from cutaway.ops.cpu.attention import Attend
from cutaway.ops.cpu.build import kernels
from cutaway.ops.cpu.gate import Gate
from cutaway.ops.cpu.list import Operations, Product


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
@pytest.mark.parametrize("family", ["llama", "gemma", "experts", "latent"])
def test_the_number_of_rows_is_written_wherever_it_stands(family):
    plan = Plan(decoder(family), int8=True, length=4096)
    told = [one for part in plan.segments if isinstance(part, Operations) for one in part.structures]
    assert told and all(not any(f[0] == "count" for f in one._fields_) or one.count % MOST == 0 for one in told)
    for rows in (3, 16, 17, MOST):
        plan.sizes.fit(rows)
        for one in told:
            if hasattr(one, "count"):
                assert one.count % rows == 0 and one.count // rows in (1, 2), type(one)
            if isinstance(one, Gate) and one.tiles.groups:
                assert one.tiles.rows == one.count
            if isinstance(one, Product):
                assert one.x.rows % rows == 0
            if isinstance(one, Attend):
                assert one.spans == (16 if rows <= 16 else 1)  # 4,096 tokens of 256


def test_rows_that_fill_up_are_the_last_again():
    held = ints()
    fill(held, [4, 5], 4)
    assert held[:5].tolist() == [4, 5, 5, 5, 0]
    fill(held, [], 4)
    assert held[0] == 4
