"""The table of formats holds what ggml's does, and rows must end on a block."""

from __future__ import annotations

import pytest
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import FORMATS, PLAIN, format_named


@pytest.mark.parametrize("name", [*FORMATS, *PLAIN])
def test_sizes_are_those_of_ggml(name: str) -> None:
    format = format_named(name)
    assert format.name == name
    assert (format.weights, format.bytes) == GGML_QUANT_SIZES[GGMLQuantizationType[name.upper()]]


def test_bits_count_the_scales() -> None:
    assert FORMATS["q4_0"].bits == 4.5
    assert FORMATS["q6_k"].bits == 6.5625


def test_rows_end_on_a_block() -> None:
    assert FORMATS["q4_1"].row_bytes(576) == 18 * 20
    with pytest.raises(BadInput, match=r"576 .* q4_k blocks of 256"):
        FORMATS["q4_k"].row_bytes(576)


def test_an_unknown_format_names_the_known() -> None:
    with pytest.raises(BadInput, match=r"'q3_x'; .*q4_0.*bf16"):
        format_named("q3_x")
