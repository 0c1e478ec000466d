from __future__ import annotations

import pytest

from cutaway.base.errors import BadInput
from cutaway.infer.embedding import Pooling
from cutaway.infer.language import Language
from cutaway.infer.save import save
from cutaway.infer.sentence import read_pooling, write_pooling
from cutaway.models.encoder import Encoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm

from .sentences import sentence_folder, write


def test_what_a_folder_says(tmp_path):
    folder = sentence_folder(tmp_path / "model")
    assert read_pooling(folder) == Pooling(by="mean", unit=True, length=12)
    folder = sentence_folder(tmp_path / "other", by="cls_token", unit=False, limits={"do_lower_case": True})
    assert read_pooling(folder) == Pooling(by="cls", unit=False, length=None, lower=True)
    write(folder, "1_Pooling/config.json", {"pooling_mode": "max", "embedding_dimension": 24})
    assert read_pooling(folder).by == "max", "as newer programs write it"
    (folder / "sentence_bert_config.json").unlink()
    (folder / "modules.json").unlink()
    assert read_pooling(folder) == Pooling(), "the mean, as a unit vector, where nobody says"


@pytest.mark.parametrize("unit", [True, False])
@pytest.mark.parametrize("by", ["mean", "cls", "max"])
def test_what_is_written_is_read(by, unit, tmp_path):
    pooling = Pooling(by=by, unit=unit, length=7, lower=True)
    write_pooling(pooling, tmp_path, dim=24, longest=32)
    assert read_pooling(tmp_path) == pooling
    write_pooling(Pooling(), tmp_path, dim=24, longest=32)
    assert read_pooling(tmp_path) == Pooling(length=32)
    with pytest.raises(BadInput, match='no pooling of sentence-transformers is "pooler"'):
        write_pooling(Pooling(by="pooler"), tmp_path, dim=24, longest=32)


@pytest.mark.parametrize(
    ("file", "data", "message"),
    [
        ("modules.json", {"a": 1}, r"modules\.json: expected a list of objects"),
        (
            "modules.json",
            [{"type": "x.Transformer"}, {"type": "x.Dense"}],
            r"modules\.json: type: .*not Transformer, D",
        ),
        ("modules.json", [{"path": ""}], r"modules\.json: a stage needs a type and a path"),
        ("modules.json", [{"type": "Transformer"}, {"type": "Pooling", "path": "../.."}], r"path: .*leads out"),
        ("modules.json", [{"type": "Transformer"}, {"type": "Pooling", "path": "/etc"}], r"path: .*leads out"),
        ("1_Pooling/config.json", {}, "pooling_mode_mean_tokens: exactly one must be true"),
        ("1_Pooling/config.json", {"pooling_mode_lasttoken": True}, "pooling_mode_lasttoken: exactly one"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": True},
            "exactly one must be true, of pooling_mode_cls_token, pooling_mode_mean_tokens",
        ),
        ("1_Pooling/config.json", {"pooling_mode_cls_token": 1}, "pooling_mode_cls_token: expected true or false"),
        ("1_Pooling/config.json", {"pooling_mode": "median"}, "pooling_mode: .*not known here"),
        (
            "1_Pooling/config.json",
            {"pooling_mode_mean_tokens": True, "include_prompt": False},
            "include_prompt: leaving a prompt out",
        ),
        ("sentence_bert_config.json", {"max_seq_length": 0}, "max_seq_length: must be from 1"),
        ("sentence_bert_config.json", {"max_seq_length": "256"}, "max_seq_length: expected a whole number"),
        ("config_sentence_transformers.json", {"default_prompt_name": "query"}, "default_prompt_name: a prompt before"),
    ],
)
def test_what_is_unknown_here_is_one_line(file, data, message, tmp_path):
    folder = sentence_folder(tmp_path)
    write(folder, file, data)
    with pytest.raises(BadInput, match=message):
        read_pooling(folder)


def test_a_file_that_is_none(tmp_path):
    folder = sentence_folder(tmp_path)
    (folder / "modules.json").write_bytes(b"\xff[")
    with pytest.raises(BadInput, match=r"modules\.json: is not JSON"):
        read_pooling(folder)


def test_where_the_encoder_has_no_home_no_pooling_is_written_either(tmp_path):
    block = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=4), feed=Plain(hidden=4), outside=LayerNorm())
    spec = Encoder(vocab=5, dim=4, length=8, blocks=(block,))  # no biases, no positions: nothing of BERT's
    with pytest.raises(BadInput, match="no architecture"):
        save(Language(spec.build()), tmp_path)
    assert not list(tmp_path.iterdir())
