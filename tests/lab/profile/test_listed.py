from __future__ import annotations

import pytest

from cutaway.lab.profile.listed import parts_of

LLAMA = ("norm", "product", "rotate", "attend", "attend_join", "product", "norm", "product", "gate", "product")
PARTS = ("norms", "projections", "positions", "attention", "attention", "projections", "norms", "feed", "feed", "feed")


def test_a_llama():
    assert parts_of(("embed", *LLAMA, *LLAMA)) == ("embedding", *PARTS, *PARTS)


def test_norms_behind_parts_and_a_head():
    gemma = (*LLAMA[:6], "norm", *LLAMA[6:], "norm")
    assert parts_of(gemma) == (*PARTS[:6], "norms", *PARTS[6:], "norms")
    assert parts_of(("norm", "product")) == ("norms", "head")


@pytest.mark.parametrize("inner", [("products", "norm"), ("product", "norm", "norm"), ("gate", "products")])
def test_products_before_an_inner_norm_are_their_mixers(inner):
    names = ("norm", *inner, "products", "rotate", "attend", "attend_join", "gates", "product")
    found = dict(zip(names, parts_of(names), strict=True))
    assert {"projections"} == {part for name, part in found.items() if "product" in name or "gate" in name}


def test_experts_are_a_feed():
    names = ("norm", "product", "route", "share", "gather", "products", "gate", "products", "combine")
    assert parts_of(names) == ("norms", *("feed",) * 8)
