from __future__ import annotations

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from cutaway.base.errors import BadInput, NotFound
from cutaway.data.readers.hub import choose, read

LISTED = ["README.md", "en/train/0001.parquet", "en/train/0000.parquet", "en/test/0000.parquet", "x.parquet"]


def test_the_only_training_part_is_taken_where_nothing_is_said():
    assert choose(LISTED, "", "hub:a/b") == ["en/train/0000.parquet", "en/train/0001.parquet"]
    assert choose(LISTED, "en/test", "hub:a/b") == ["en/test/0000.parquet"]
    with pytest.raises(BadInput, match=r"several parts: en/test, en/train, zh/train; say which, as hub:a/b:en/test"):
        choose([*LISTED, "zh/train/0.parquet"], "", "hub:a/b")
    with pytest.raises(NotFound, match=r'no part "en/tran"; did you mean "en/train"\?'):
        choose(LISTED, "en/tran", "hub:a/b")
    with pytest.raises(NotFound, match="no Parquet files"):
        choose(["README.md"], "", "hub:a/b")


def test_its_files_are_read_one_after_another(tmp_path, monkeypatch):
    pyarrow = pytest.importorskip("pyarrow", reason="needs the extra `data`")
    parquet = pytest.importorskip("pyarrow.parquet")
    asked = []

    def fetch(identity, file, *, repo_type, revision):
        asked.append((identity, file, repo_type, revision))
        path = tmp_path / "local.parquet"
        parquet.write_table(pyarrow.table({"body": [file]}), path)
        return str(path)

    monkeypatch.setattr(huggingface_hub, "list_repo_files", lambda identity, **_: LISTED)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert list(read("hub:a/b:en/train", field="body")) == [
        (f"en/train/000{at}.parquet", f"hub:a/b:en/train/en/train/000{at}.parquet", 1) for at in (0, 1)
    ]
    assert asked[0] == ("a/b", "en/train/0000.parquet", "dataset", "refs/convert/parquet")


@pytest.mark.parametrize("failure", [OfflineModeIsEnabled("offline"), ConnectionError("no\nroute")])
def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch, failure):
    def refuse(*_, **__):
        raise failure

    monkeypatch.setattr(huggingface_hub, "list_repo_files", refuse)
    with pytest.raises(NotFound, match=r"hub:a/b: cannot be had from the hub: (offline|no route)"):
        list(read("hub:a/b"))


def test_a_wrong_name_is_refused():
    with pytest.raises(BadInput, match="is no name of a data set"):
        list(read("hub:a/b/c"))
