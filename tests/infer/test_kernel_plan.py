"""What a decoder becomes: which operations in which order, and where torch runs between two lists."""

from __future__ import annotations

import pytest
from tests.infer.quantising import decoder

from cutaway.infer.kernel_plan import Plan, listed, room_for
from cutaway.ops.cpu.build import kernels

LLAMA = ("norm", "product", "rotate", "attend", "attend_join", "product", "norm", "product", "gate", "product")
ABSORBED = ("norm", "products", "norm", "rotate", "rotate", "gates", "products")
LATENT = (*ABSORBED, "attend", "attend_join", "gates", "products", "gate", "product")
CHOICE = ("norm", "gate", "product", "route")
PORTION = ("share", "gather", "products")
EXPERTS = (*CHOICE, *PORTION, "gate", *PORTION, "combine")
GEMMA = (*LLAMA[:6], "norm", *LLAMA[6:], "norm")


def names(family, formats=("q4_1",), **told):
    module = decoder(family, formats, **told)
    caches = [room_for(block.mixer) for block in module.blocks]
    return Plan(module, caches, rows=1, last=1, room=64, int8=False).names


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
def test_a_llama_is_one_list():
    assert names("llama") == ("embed", *LLAMA, *LLAMA, "norm", "product")
    assert names("gemma") == ("embed", *GEMMA, *GEMMA, "norm", "product")


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
def test_maps_of_several_formats_are_products_of_their_own():
    assert names("llama", ("q4_0", "q4_1", "q8_0")).count("product") > names("llama").count("product")
    assert names("qwen").count("product") == names("llama").count("product") + 4  # biases: q, k, v apart


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
def test_what_no_kernel_does_cuts_the_list():
    assert names("experts") == ("embed", *LLAMA, *LLAMA[:6], *EXPERTS, *LLAMA, "norm", "product")
    assert names("latent") == ("embed", *LATENT, *LLAMA[6:], *LLAMA, "norm", "product")
    assert names("gpt2")[:2] == ("embed", "torch")  # learned positions


def test_how_much_of_a_model_runs_as_kernels():
    assert [listed(decoder(family)) for family in ("llama", "experts", "latent")] == [4, 6, 4]
