from __future__ import annotations

from cutaway.base.names import did_you_mean, nearest


def test_nearest_forgives_letters_and_case():
    assert nearest("smolm2-135m", ["smollm2-135m", "gemma3-270m"]) == "smollm2-135m"
    assert nearest("groupedquery", ["GroupedQuery", "Gated"]) == "GroupedQuery"
    assert nearest("xyz", ["smollm2-135m"]) is None
    assert nearest("xyz", []) is None


def test_did_you_mean_is_the_end_of_a_sentence():
    assert did_you_mean("rop", ["rope", "attend"]) == '; did you mean "rope"?'
    assert did_you_mean("xyz", ["rope", "attend"]) == " (known: rope, attend)"
    assert did_you_mean("xyz", []) == ""
    assert did_you_mean("xyz", [f"name{number}" for number in range(50)]) == ""
