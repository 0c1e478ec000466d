"""Agreement by reading an answer is agreement by writing it, and a row's figures are those of the model."""

from __future__ import annotations

import math

import pytest
import torch

from cutaway.infer.language import Language
from cutaway.lab.checks.perplexity import perplexity
from cutaway.ops.forms import NAMED

from ..serve import small
from .scripts import script


@pytest.fixture(scope="module")
def accuracy():
    with script("accuracy") as module:
        yield module


@pytest.fixture(scope="module")
def language(tmp_path_factory) -> Language:
    return small.language(tmp_path_factory.mktemp("accuracy"))


def test_a_loss_is_that_of_perplexity(accuracy, language):
    ids = torch.randint(1, language.spec.vocab, (30,), generator=torch.Generator().manual_seed(0)).tolist()
    # The same sums in float32, in passes of the same size.
    assert math.exp(accuracy.loss(language, ids)) == pytest.approx(perplexity(language, ids, accuracy.EIGHT), rel=1e-5)


def test_what_is_read_is_what_would_be_written_until_the_first_difference(accuracy, language):
    prompts = [[1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 2, 3, 4, 9], [5]]
    exact = Language(language.module, language.tokenizer, forms=NAMED["exact"])
    written = accuracy.answers(exact, prompts, 12)
    chosen = accuracy.choices(exact, prompts, written)
    assert [[token for token, _ in told] for told in chosen] == written
    leads = [[led for _, led in told] for told in chosen]
    told = accuracy.agreement(written, leads, chosen)
    tokens = sum(map(len, written))
    assert told == {"equal": 3, "answers": 3, "agreed": tokens, "tokens": tokens, "leads": []}
    # Another model writes something else by itself: what comes before that is what agrees.
    again = [list(answer) for answer in written]
    again[0][4] += 1
    told = accuracy.agreement(again, leads, chosen)
    assert (told["equal"], told["agreed"], told["leads"]) == (2, tokens - len(written[0]) + 4, [leads[0][4]])


def test_an_answer_ends_with_its_turn(accuracy, language, monkeypatch):
    exact = Language(language.module, language.tokenizer, forms=NAMED["exact"])
    whole = accuracy.answers(exact, [[1, 2, 3]], 12)[0]
    monkeypatch.setattr(type(language.tokenizer), "eos_ids", frozenset({whole[5]}))
    end = whole.index(whole[5])
    assert accuracy.answers(exact, [[1, 2, 3]], 12)[0] == whole[: end + 1]


def test_questions_are_evenly_apart(accuracy):
    trial = accuracy.Trial(text="", count=1, length=8, prompts=100, new=4)
    assert len(set(trial.questions)) == 100
    assert accuracy.Trial(text="", count=1, length=8, prompts=2, new=4).questions == [
        "What is the sea?",
        "Write one sentence that contains the words the sea.",
    ]


def test_the_table_holds_each_mode_against_the_reference(accuracy, monkeypatch):
    monkeypatch.setattr(accuracy, "formats", lambda file: "q4_1")
    trial = accuracy.Trial(text="t", count=1, length=8, prompts=2, new=4)
    row = {"perplexity": 10.0, "equal": 2, "answers": 2, "agreed": 8, "tokens": 8, "leads": [], "paris": True}
    rows = {f"shipped/{mode}/{trial}": dict(row) for mode in (accuracy.REFERENCE, *accuracy.MODES)}
    rows[f"shipped/kernels-int8/{trial}"] |= {
        "perplexity": 10.2,
        "equal": 1,
        "agreed": 5,
        "leads": [0.25],
        "paris": False,
    }
    arguments = type("Told", (), {"called": "shakespeare"})()
    text = accuracy.report(rows, {"shipped": None}, trial, arguments)
    assert "| kernels-int8 | 10.2000 | +2.000% | 1 of 2 | 5 of 8 | 0.250, 0.250 | no |" in text
    assert "| perplexity within 1% in every mode | 2.00% at most (shipped, kernels-int8) | falls short |" in text
    assert "| the shipped file says Paris, kernels | yes | holds |" in text
