from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.infer.language import Language
from cutaway.lab.compare import length
from cutaway.lab.compare.folder import Folder, measured
from cutaway.lab.compare.kinds import VALUES
from cutaway.lab.compare.length import LengthComparison, curve
from cutaway.lab.compare.subject import subject
from cutaway.models.decoder import Decoder
from cutaway.nn.alibi import Alibi
from cutaway.text.bpe import BytePair

TEXT = "the pass key is the key of the pass, and the pass is high. " * 400


@pytest.fixture
def sloped(spec) -> Decoder:
    """A model without rotations, whose layers all see everything, and near tokens more."""
    mixer = replace(spec.blocks[2].mixer, rope=None, alibi=Alibi())
    return replace(spec, vocab=280, blocks=(replace(spec.blocks[2], mixer=mixer),) * 2)


@pytest.fixture
def comparison(sloped, tmp_path, monkeypatch) -> LengthComparison:
    torch.manual_seed(0)
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")
    tokenizer = BytePair.train([TEXT], vocab=280).fast()
    language = Language(sloped.build(), tokenizer)
    for weight in language.module.parameters():
        torch.nn.init.normal_(weight, std=0.4)
    monkeypatch.setattr(length, "opened", lambda *told: language)
    made = subject("mine", sloped, 64, context=160, lengths=(120, 160), window=20, sinks=2, passages=2)
    return LengthComparison(subjects=(made,), text=str(tmp_path / "text.txt"), depths=(0.0, 1.0))


def test_each_variant_is_a_cell_and_changes_what_it_should(comparison, tmp_path):
    """Slopes leave two windows beside the model as it is. Within the window all are one; behind it each is its own."""
    found = {cell.key: cell.measure() for cell in comparison.cells()}
    assert list(found) == ["mine, as-is", "mine, window", "mine, window+sinks"]
    plain, near, sinks = found.values()
    assert plain["edges"] == near["edges"] and len(plain["losses"]) == len(plain["edges"]) - 1 == 9  # type: ignore
    # Losses 0 to 16 are of tokens that see less than the window. Sums in another order.
    assert plain["losses"][0] == pytest.approx(near["losses"][0], abs=1e-4)  # type: ignore
    assert plain["losses"][0] == pytest.approx(sinks["losses"][0], abs=1e-4)  # type: ignore
    for one, other in ((plain, near), (plain, sinks), (near, sinks)):
        # Far beyond what float32 sums in another order would make of it, some 1e-6.
        assert abs(one["beyond"] - other["beyond"]) > 1e-4  # type: ignore[operator]
    for figures in found.values():
        asked = [(one["length"], one["depth"]) for one in figures["passkey"]]  # type: ignore
        assert asked == [(120, 0.0), (120, 1.0), (160, 0.0), (160, 1.0)]
        assert all(0.0 <= one["found"] <= 1.0 and one["nats"] > 0 for one in figures["passkey"])  # type: ignore
    json.dumps(found, allow_nan=False)


def test_a_folder_of_it_goes_on_and_comes_out_the_same(comparison, tmp_path):
    folder = Folder.begin(tmp_path / "run", comparison)
    made = measured(comparison, folder)
    first = next(made)
    made.close()
    again = list(measured(comparison, Folder.begin(tmp_path / "run", comparison)))
    assert [fresh for _, _, fresh in again] == [False, True, True] and again[0][1] == first[1]
    assert from_plain(folder.card["comparison"], VALUES) == comparison
    page = (tmp_path / "run" / "page.html").read_text(encoding="utf-8")
    assert "mine: perplexity by position" in page and "Attention runs as sdpa." in page
    assert "Attention runs as naive." in replace(comparison, attend="naive").page({})


def test_means_of_stretches_and_of_both_sides():
    figures = curve(torch.arange(100.0))
    assert figures["edges"] == [0, 16, 33, 50, 66, 83, 100]
    assert figures["losses"] == [7.5, 24.0, 41.0, 57.5, 74.0, 91.0]
    assert curve(torch.ones(3))["edges"] == [0, 3]
    # Loss t is that of token t + 1: tokens 2 and 3 of losses 10, 11, 12, 13.
    assert length._mean(torch.tensor([[10.0, 11.0, 12.0, 13.0]]), 2, 4) == 11.5
    assert length._mean(torch.ones(1, 4), 5, 5) is None


def test_a_small_model_is_trained_first(comparison):
    small = replace(comparison.subjects[0], model="small")
    cells = replace(comparison, subjects=(small,)).cells()
    assert [cell.key for cell in cells][:2] == ["small, trained", "small, as-is"]
    assert cells[0].measure()["parameters"] > 0  # type: ignore[operator]


@pytest.mark.parametrize(
    ("wrong", "field"), [({"subjects": ()}, "subjects"), ({"depths": (1.5,)}, "depths"), ({"steps": 0}, "steps")]
)
def test_an_impossible_value_is_refused(comparison, wrong, field):
    with pytest.raises(BadInput, match=field):
        replace(comparison, **wrong)
    with pytest.raises(BadInput, match="subjects"):
        replace(comparison, subjects=comparison.subjects * 2)
    assert to_plain(comparison)["depths"] == [0.0, 1.0]


def test_only_a_decoder_with_a_tokenizer_is_opened(monkeypatch, language, encoder):
    length.opened.cache_clear()
    monkeypatch.setattr(length, "load", lambda model: language)
    with pytest.raises(BadInput, match="without a tokenizer"):
        length.opened("folder", "text", 1, 0)
    monkeypatch.setattr(length, "load", lambda model: Language(encoder.build()))
    with pytest.raises(BadInput, match="only a decoder"):
        length.opened("folder", "text", 1, 0)
