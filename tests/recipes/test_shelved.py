from __future__ import annotations

from cutaway.data.corpus import RECORD
from cutaway.recipes.shelved import Shelved, corpus_at
from cutaway.recipes.stream import Stream
from cutaway.recipes.table import made
from cutaway.recipes.vocabulary import Characters

MEANT = {"vocabulary": Characters(), "validation": 0.1, "template": None}


def test_a_prepared_folder_is_told_from_a_text(tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "prepared").mkdir()
    (tmp_path / "prepared" / RECORD).write_text("{}", encoding="utf-8")
    assert corpus_at(str(tmp_path / "prepared"), **MEANT) == Shelved(path=str(tmp_path / "prepared"))
    for text in (str(tmp_path / "texts"), str(tmp_path / "nowhere.txt"), "shakespeare"):
        assert corpus_at(text, **MEANT) == Stream(path=text, **MEANT)
    assert made("nano", [f"corpus={tmp_path / 'prepared'}"]).task.corpus == Shelved(path=str(tmp_path / "prepared"))
