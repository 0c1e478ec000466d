from __future__ import annotations

import random

import pytest
import torch

from cutaway.lab.compare import short as module
from cutaway.lab.compare.short import SHORT, folder_of, short
from cutaway.nn.alibi import Alibi
from cutaway.recipes.nano import small
from cutaway.text.bpe import BytePair

TEXT = "To be, or not to be, that is the question. The pass key is what the pass is for. " * 60


@pytest.fixture
def tiny(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CUTAWAY_HOME", str(tmp_path))
    monkeypatch.setattr(module, "VOCAB", 280)
    monkeypatch.setattr(module, "ROWS", 2)
    monkeypatch.setitem(
        SHORT, "small", lambda vocab: small(vocab=vocab, layers=1, heads=1, dim=8, hidden=8, length=160)
    )


def test_it_learns_and_is_trained_once(tiny, monkeypatch):
    torch.set_num_threads(1)
    losses: list[float] = []
    learn = module.learn
    monkeypatch.setattr(module, "learn", lambda *told, **more: losses.extend(learn(*told, **more)))
    first, tokenizer = short("small", TEXT, steps=12)
    assert sum(losses[-3:]) < sum(losses[:3]) - 1.0
    assert folder_of("small", TEXT, 12, 0).is_dir() and not folder_of("small", TEXT, 13, 0).exists()
    monkeypatch.setattr(module, "learn", lambda *told, **more: pytest.fail("trained again"))
    again, same = short("small", TEXT, steps=12)
    assert same.encode(TEXT[:50]) == tokenizer.encode(TEXT[:50])
    for one, other in zip(first.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_later_mentions_of_a_number_are_what_counts():
    tokenizer = BytePair.train([TEXT], vocab=280).fast()
    ids_N = torch.tensor(tokenizer.encode(TEXT))
    rows_BT, counted_BT = module._asked(ids_N, tokenizer, 160, random.Random(0), 4)
    for ids_T, counted_T in zip(rows_BT, counted_BT, strict=True):
        said = tokenizer.decode(ids_T[counted_T].tolist())
        assert len(said) == 10 and said[:5] == said[5:] and said.isdecimal()
        assert tokenizer.decode(ids_T.tolist()).count(said[:5]) == 3
    assert len({int(counted_T.nonzero()[0]) for counted_T in counted_BT}) > 8, "told at a place of its own in each row"


def test_one_has_rope_and_one_has_slopes():
    rotating, sloped = (SHORT[name](512).blocks[0].mixer for name in ("small", "small-alibi"))
    assert rotating.rope is not None and rotating.alibi is None  # type: ignore[attr-defined]
    assert sloped.rope is None and sloped.alibi == Alibi()  # type: ignore[attr-defined]
