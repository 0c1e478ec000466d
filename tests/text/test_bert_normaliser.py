"""Every character of Unicode against `tokenizers`."""

from __future__ import annotations

import unicodedata
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from cutaway.text.bert_normaliser import BertNormaliser, words

# Every character that Python's tables know, and one more that the docstring names.
KNOWN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")]
KNOWN.remove("\U00011938")

OPTIONS = list(product((True, False), (True, False), (None, True, False), (True, False)))


def pair(options):
    clean, chinese, strip, lower = options
    theirs = normalizers.BertNormalizer(
        clean_text=clean, handle_chinese_chars=chinese, strip_accents=strip, lowercase=lower
    )
    return BertNormaliser(clean=clean, chinese=chinese, strip_accents=strip, lowercase=lower), theirs


@pytest.mark.parametrize("options", [(True, True, None, True), (False, False, True, False), (True, True, False, True)])
def test_every_character_is_normalised_alike(options):
    ours, theirs = pair(options)
    text = "".join(f"a{character}b" for character in KNOWN)
    if ours(text) != theirs.normalize_str(text):
        wrong = [one for one in KNOWN if ours(f"a{one}b") != theirs.normalize_str(f"a{one}b")]
        raise AssertionError(f"{len(wrong)} differ: {[hex(ord(one)) for one in wrong[:20]]}")


def test_every_character_is_cut_alike():
    text = "".join(f"a{character}b" for character in KNOWN)
    assert words(text) == [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(text)]


@given(
    text=st.text(st.sampled_from([*"aÀé\u0301\u0323ǅİΣς 你\t\n\x00\ufffd\x1c.$`-가", *KNOWN[::997]])),
    options=st.sampled_from(OPTIONS),
)
def test_any_text(text, options):
    ours, theirs = pair(options)
    normalised = theirs.normalize_str(text)
    assert ours(text) == normalised
    assert words(normalised) == [word for word, _ in pre_tokenizers.BertPreTokenizer().pre_tokenize_str(normalised)]


def test_what_bert_makes_of_text():
    assert BertNormaliser()("Héllo\tWORLD\u200b") == "hello world"
    assert BertNormaliser(lowercase=False)("Héllo") == "Héllo"
    assert words(BertNormaliser()("It's 你好!")) == ["it", "'", "s", "你", "好", "!"]
