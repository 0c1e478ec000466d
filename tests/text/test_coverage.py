from __future__ import annotations

from cutaway.text.coverage import covering

WORDS = {"abb": 2, "cc": 1, "a": 1, "你": 1}  # b 4, a 3, c 2, 你 1: ten characters


def test_the_most_frequent_characters_are_taken_until_they_are_enough():
    assert covering(WORDS, 1.0) == ["b", "a", "c", "你"]
    assert covering(WORDS, 0.9) == ["b", "a", "c"]
    assert covering(WORDS, 0.71) == ["b", "a", "c"]
    assert covering(WORDS, 0.7) == ["b", "a"]
    assert covering({}, 1.0) == covering({"": 3}, 1.0) == []


def test_of_equally_frequent_ones_the_smaller_code_point_comes_first():
    assert covering({"cab": 5}, 0.5) == ["a", "b"]
