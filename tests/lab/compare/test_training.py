"""What is trained is equal in weights and tokens, repeats, and learns what can be learned."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from cutaway.base.errors import BadInput, NotFound
from cutaway.lab.compare.training import Setting, Text, built, matched, parameters, train
from cutaway.nn.feedforward import Gated, Plain

SMALL = Setting(dim=16, layers=1, heads=2, length=16, rows=4, steps=6, windows=8, seeds=2)


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {number} of 三国.\n" for number in range(400)), encoding="utf-8")
    return str(path)


def test_text_is_characters_in_order_with_its_end_kept_apart(corpus):
    text, read = Text.read(corpus, 16), Path(corpus).read_text(encoding="utf-8")
    characters = sorted(set(read.strip()))
    assert text.vocab == len(characters)
    whole = torch.cat((text.training, text.validation)).tolist()
    assert "".join(characters[one] for one in whole).strip() == read.strip()
    assert len(text.training) == int(0.9 * len(whole))


def test_windows_say_the_next_character(corpus):
    text = Text.read(corpus, 16)
    batch = next(text.batches(SMALL, 3))
    assert batch.lengths == (16,) * 4
    ids_BT, targets_BT = batch.ids_N.view(4, 16), batch.targets_N.view(4, 16)
    assert torch.equal(ids_BT[:, 1:], targets_BT[:, :-1])
    again, other = next(text.batches(SMALL, 3)), next(text.batches(SMALL, 4))
    assert torch.equal(again.ids_N, batch.ids_N) and not torch.equal(other.ids_N, batch.ids_N)
    held = list(text.held(300, 16))
    assert sum(len(one.lengths) for one in held) == 300
    assert torch.equal(held[0].ids_N[:16], text.validation[:16])
    assert torch.equal(held[-1].targets_N[-16:], text.validation[-16:])


@pytest.mark.parametrize("make", [Plain, Gated])
def test_equal_weights_are_found_and_real(make):
    setting = Setting()
    target = parameters(setting.usual(80))
    model = matched(lambda hidden: setting.decoder(80, setting.mixer(), make(hidden=hidden)), target, name="x")
    real = sum(one.numel() for one in model.build().parameters())
    assert real == parameters(model) and abs(real - target) <= 0.01 * target


def test_what_cannot_be_made_equal_is_refused():
    setting = Setting(dim=16, heads=2, layers=1)
    with pytest.raises(BadInput, match="wide: has"):
        matched(lambda hidden: setting.decoder(80, setting.mixer(), Plain(hidden=hidden)), 100, name="wide")


def test_a_training_repeats_and_draws_nothing_from_the_caller(corpus):
    text = Text.read(corpus, 16)
    model, state = SMALL.usual(text.vocab), torch.random.get_rng_state()
    first, again, other = (train(built(model, seed), text, SMALL, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert (first.loss, first.curve) == (again.loss, again.curve) and first.loss != other.loss
    assert [tokens for tokens, _ in first.curve] == [64 * step for step in range(1, 7)]


def test_it_learns(corpus):
    text = Text.read(corpus, 16)
    setting = replace(SMALL, steps=60, rate=1e-2)
    loss = train(built(setting.usual(text.vocab), 0), text, setting, 0).loss
    # The lines differ in their numbers alone: most characters follow from those before, so that half is easily beaten.
    assert loss < 0.5 * math.log(text.vocab)


def test_bad_texts_are_named(tmp_path):
    short = tmp_path / "short.txt"
    short.write_text("too little", encoding="utf-8")
    with pytest.raises(BadInput, match=r"short\.txt: 10 characters are too few"):
        Text.read(str(short), 16)
    with pytest.raises(NotFound):
        Text.read(str(tmp_path / "nowhere.txt"), 16)


@pytest.mark.parametrize("change", [{"dim": 20, "heads": 4}, {"steps": 0}, {"rate": 0.0}, {"seeds": 0}])
def test_what_cannot_be_is_refused(change):
    with pytest.raises(BadInput, match=f"Setting.{next(iter(change))}"):
        replace(SMALL, **change)
