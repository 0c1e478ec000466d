"""What a decoder becomes: which operations in which order, and where torch runs between two lists."""

from __future__ import annotations

import pytest
from tests.infer.quantising import decoder

from cutaway.infer.kernel_plan import Plan
from cutaway.infer.kernel_reach import listed
from cutaway.ops.cpu.build import kernels

LLAMA = ("norm", "product", "rotate", "attend", "attend_join", "product", "norm", "product", "gate", "product")
ABSORBED = ("norm", "products", "norm", "rotate", "rotate", "gates", "products")
LATENT = (*ABSORBED, "attend", "attend_join", "gates", "products", "gate", "product")
CHOICE = ("norm", "gate", "product", "route")
PORTION = ("share", "gather", "products")
EXPERTS = (*CHOICE, *PORTION, "gate", *PORTION, "combine")
GEMMA = (*LLAMA[:6], "norm", *LLAMA[6:], "norm")


def names(family, formats=("q4_1",), **told):
    return Plan(decoder(family, formats, **told), int8=False, length=64).names


@pytest.mark.skipif(kernels().library is None, reason="no kernels")
def test_a_llama_is_one_list():
    assert names("llama") == ("embed", *LLAMA, *LLAMA, "norm", "product")
    assert names("gemma") == ("embed", *GEMMA, *GEMMA, "norm", "product")
    assert names("sinks") == ("embed", *GEMMA, *GEMMA, *LLAMA, "norm", "product")


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
