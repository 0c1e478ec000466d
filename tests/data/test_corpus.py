from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput, NotFound
from cutaway.data.corpus import RECORD, Corpus, is_corpus
from cutaway.data.preparation import Preparation, prepare


def test_a_corpus_opens_with_what_made_it(tmp_path, corpus, tokenizer):
    (tmp_path / "a.txt").write_text("\n".join(corpus), encoding="utf-8")
    prepare([tmp_path / "a.txt"], tokenizer, tmp_path / "c", Preparation(separator="\n", validation=0.2), workers=1)
    made = Corpus(tmp_path / "c")
    assert is_corpus(tmp_path / "c") and made.validation is not None
    assert made.tokenizer.encode(corpus[0]) == tokenizer.encode(corpus[0]) and made.tokenizer.eos_id == tokenizer.eos_id
    assert made.record["preparation"]["validation"] == 0.2


def test_what_is_none_or_damaged_is_said(tmp_path):
    assert not is_corpus(tmp_path)
    with pytest.raises(NotFound, match="no prepared corpus; `cutaway data prepare` makes one"):
        Corpus(tmp_path)
    (tmp_path / RECORD).write_text("{", encoding="utf-8")
    with pytest.raises(BadInput, match=r"prepared.json: cannot be read"):
        Corpus(tmp_path)
    (tmp_path / RECORD).write_text("{}", encoding="utf-8")
    with pytest.raises(NotFound, match="was not finished"):
        Corpus(tmp_path)
