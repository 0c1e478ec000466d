from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.ops.blocks.format import FORMATS, PLAIN
from cutaway.ops.blocks.scheme import Absmax, precision_named


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("int8", Absmax(bits=8, share="row")),
        ("INT8:tensor", Absmax(bits=8, share="tensor")),
        ("int4:group=64", Absmax(bits=4, share=64)),
        ("int4:group=32,asymmetric", Absmax(bits=4, share=32, symmetric=False)),
        ("int4:asymmetric", Absmax(bits=4, share="row", symmetric=False)),
        ("q4_1", FORMATS["q4_1"]),
        ("bfloat16", PLAIN["bf16"]),
        ("fp32", PLAIN["f32"]),
    ],
)
def test_names(text, expected):
    assert precision_named(text) == expected
    if isinstance(expected, Absmax):
        assert precision_named(expected.name) == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("int5", 'did you mean "int8"'),
        ("int4:rows", "row"),
        ("int4:group=x", "group=x"),
        ("int4:group=1", r"Absmax\.share"),
        ("q6_k", "q6_k"),
        ("q4_0:row", "q4_0:row"),
        ("", "weights"),
        ("int8:", "int8"),
    ],
)
def test_what_is_none_is_refused_in_one_line(text, told):
    with pytest.raises(BadInput, match=told) as error:
        precision_named(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("told", [{"bits": 3}, {"share": 0}, {"share": "column"}, {"share": 2.0}])
def test_impossible_values_are_refused_when_made(told):
    with pytest.raises(BadInput, match="Absmax"):
        Absmax(**told)


def test_a_row_is_cut_into_equal_groups():
    four = Absmax(bits=4, share=128)
    assert four.format(1536).weights == 128
    assert four.format(576).weights == 96, "576 = 6 x 96: the most up to 128"
    assert four.format(48).weights == 48
    assert Absmax(bits=8, share=4).format(7).weights == 1
    with pytest.raises(BadInput, match="7 columns"):
        four.format(7)
    assert four.format(576) is four.format(576), "joined matrices are known by it"


def test_bits_of_a_weight_with_its_share_of_the_scale():
    assert Absmax(bits=4, share=32).format(64).bits == 4.5 == FORMATS["q4_0"].bits
    assert Absmax(bits=4, share=64, symmetric=False).format(64).bits == 4.5
    assert Absmax(bits=8, share="row").format(1024).bits == 8 + 16 / 1024
