from __future__ import annotations

import pytest
import torch

from cutaway.lab.bound import Bound, _products, product_seconds, traffic
from cutaway.nn.context import Context
from cutaway.nn.quantised import QuantisedLinear
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.packed import Packed


def packed(rows: int, columns: int = 64) -> QuantisedLinear:
    blocks = quantise(torch.randn(rows, columns), FORMATS["q8_0"])
    return QuantisedLinear(Packed(blocks=blocks, format=FORMATS["q8_0"]), torch.zeros(rows))


def test_traffic_is_all_weights_once_and_one_row_of_what_is_looked_up(spec, older):
    whole = sum(parameter.nbytes for parameter in spec.build().parameters())
    assert traffic(spec.build()) == whole
    module = older.build()
    rows = [module.embedding.weight, module.positions.weight]
    whole = sum(parameter.nbytes for parameter in module.parameters())
    assert traffic(module) == whole - sum(row.nbytes for row in rows) + 2 * 32 * 4


def test_traffic_of_a_packed_matrix_is_that_of_its_copy_once_it_has_one():
    module = packed(rows=16)
    assert traffic(module) == 16 * 2 * 34 + 16 * 4
    copy = module.packed.few()
    held_by_copy = sum(one.nbytes for one in vars(copy).values() if isinstance(one, torch.Tensor))
    assert copy is not None and traffic(module) == held_by_copy + 16 * 4


def test_products_are_those_that_the_flops_count(language, spec):
    context = Context.of((1,))
    with torch.inference_mode():
        outputs = [call().shape[-1] for call in _products(language, context)]
    block = [32, 16, 16, 32, 48, 48, 32]  # query, key, value, out, gate, up, down
    assert outputs == block * len(spec.blocks) + [96]
    assert product_seconds(language, rounds=1) > 0


def test_a_bound_from_round_numbers():
    bound = Bound(weights=90, cache=10, bandwidth=1000.0, seconds=0.5, products=0.2)
    assert (bound.roof, bound.rate, bound.rest) == (10.0, 2.0, pytest.approx(0.3))
    assert Bound(weights=1, cache=0, bandwidth=1.0, seconds=0.1, products=0.2).rest == 0.0
