"""The table is held against transformers itself, and against what it says is here."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from cutaway.infer.answer import Answer
from cutaway.infer.ask import Ask
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup
from cutaway.infer.request import Request
from cutaway.infer.scheduler import Limits
from cutaway.infer.searches import BeamSearch, BestOf, ContrastiveSearch
from cutaway.lab.explain.decoding import DECODING, PARAMETERS
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.text.tokenizer import Tokenizer

OURS: dict[str, Any] = {
    kind.__name__: kind
    for kind in (
        Answer,
        Ask,
        BeamSearch,
        BestOf,
        Context,
        ContiguousCache,
        ContrastiveSearch,
        Decoding,
        Draft,
        EarlyExit,
        EncoderDecoder,
        Language,
        Limits,
        PromptLookup,
        Request,
        Tokenizer,
    )
}
OWN = {"self", "kwargs"}  # of Python
BOOKKEEPING = {"_from_model_config", "transformers_version"}  # where a config came from, not how text is made


def theirs() -> set[str]:
    """Every parameter of `generate` and every field of GenerationConfig, of the transformers that is installed."""
    from transformers import GenerationConfig, GenerationMixin

    fields = set(vars(GenerationConfig())) - BOOKKEEPING
    return fields | set(inspect.signature(GenerationMixin.generate).parameters) - OWN


def test_every_parameter_there_is_told_of():
    assert theirs() - {there for there, _, _ in PARAMETERS} == set()


def test_nothing_is_told_of_that_is_not_there():
    told = [there for there, _, _ in PARAMETERS]
    assert len(told) == len(set(told))
    assert set(told) - theirs() == set()


@pytest.mark.parametrize(("there", "here", "why"), PARAMETERS, ids=[row[0] for row in PARAMETERS])
def test_what_is_said_to_be_here_is_or_why_not(there, here, why):
    if here == "not here":
        assert why
        return
    owner, _, name = here.partition(".")
    kind = OURS[owner]
    known = {*dir(kind), *getattr(kind, "__dataclass_fields__", {}), *inspect.signature(kind).parameters}
    assert not name or name in known, here


def test_every_field_of_our_own_stands_in_the_table_or_has_no_counterpart_there():
    here = {row[1] for row in PARAMETERS}
    ours_alone = {"presence_penalty", "frequency_penalty", "seed"}
    assert {f"Decoding.{name}" for name in Decoding.__dataclass_fields__} - here == {
        f"Decoding.{name}" for name in ours_alone
    }
    for kind in (BeamSearch, ContrastiveSearch):
        missing = {f"{kind.__name__}.{name}" for name in kind.__dataclass_fields__} - here
        assert missing <= {"ContrastiveSearch.top_k"}


def test_the_equations_fit_a_terminal_of_80_columns():
    assert max(map(len, DECODING[0].equation.splitlines())) <= 78
