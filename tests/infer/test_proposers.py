from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cutaway.base.errors import BadInput
from cutaway.infer.acceptance import Choosing
from cutaway.infer.decoding import Decoding
from cutaway.infer.language import Language
from cutaway.infer.proposers import Draft, EarlyExit, PromptLookup, prefix
from cutaway.models.decoder import Decoder
from cutaway.models.encoder import Encoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm

from .tiny import VOCAB, following, tiny


def greedy(prompt: int = 1, **told) -> Choosing:
    return Choosing(decoding=Decoding(**told), draw=random.Random(0), prompt=prompt)


def by_hand(text: list[int], spec: PromptLookup, count: int) -> list[int]:
    """Longest run first, latest place first; what is found is copied token by token, over the end."""
    for size in range(spec.longest, spec.shortest - 1, -1):
        for place in range(len(text) - 1, size - 1, -1):
            if text[place - size : place] == text[len(text) - size :]:
                whole = list(text)
                for at in range(count):
                    whole.append(whole[place + at])
                return whole[len(text) :]
    return []


@given(
    st.lists(st.integers(0, 3), min_size=1, max_size=30), st.lists(st.integers(0, 3), max_size=12), st.integers(1, 7)
)
def test_lookup_finds_what_a_search_finds(text, more, count):
    spec = PromptLookup(longest=3, shortest=1)
    lookup = spec.begin()
    for end in range(len(text), len(text) + len(more) + 1):  # the index grows with the text
        seen = (text + more)[:end]
        proposal = lookup.propose(seen, count)
        assert list(proposal.tokens) == by_hand(seen, spec, count)


def test_lookup_says_how_long_a_run_it_found():
    lookup = PromptLookup(longest=3, shortest=2).begin()
    assert lookup.propose([1, 2, 3, 9, 1, 2, 3], 2).kind == 3
    assert lookup.propose([1, 2, 3, 9, 1, 2, 3, 7, 2, 3], 2).kind == 2
    assert lookup.propose([1, 2, 3, 9, 1, 2, 3, 7, 2, 3, 0], 2).tokens == ()


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: PromptLookup(count=0), "count"),
        (lambda: PromptLookup(count=33), "count"),
        (lambda: PromptLookup(longest=1, shortest=2), "shortest"),
        (lambda: EarlyExit(blocks=0), "blocks"),
        (lambda: EarlyExit(blocks=2).begin(tiny()), "blocks"),
        (lambda: Draft(language=tiny(), count=True), "count"),
    ],
)
def test_impossible_ones_are_refused(make, field):
    with pytest.raises(BadInput, match=field):
        make()


def test_a_draft_of_other_tokens_is_refused():
    block = Block(mixer=GroupedQuery(heads=1, kv_heads=1, head_dim=2), feed=Gated(hidden=4), before=RMSNorm())
    other = Language(Decoder(vocab=VOCAB + 1, dim=4, length=8, blocks=(block,)).build(), source="other")
    with pytest.raises(BadInput, match="other tokens"):
        Draft(language=other).begin(tiny())
    with pytest.raises(BadInput, match="only a decoder"):
        Draft(language=Language(Encoder(vocab=VOCAB, dim=4, length=8, blocks=(block,)).build()))


def test_a_draft_writes_what_it_would_write_also_after_it_was_wrong():
    language = tiny(1)
    drafting, text, draw = Draft(language=language).begin(tiny(0)), [1, 2, 3], random.Random(0)
    for _ in range(6):
        proposal = drafting.propose(text, 4, greedy())
        assert proposal.chances_XV is None
        assert list(proposal.tokens) == list(language.generate(text, max_tokens=4).tokens)
        text += [*proposal.tokens[: draw.randrange(3)], draw.randrange(VOCAB)]


def test_a_draft_that_draws_says_from_what():
    language, text = tiny(1), [1, 2, 3]
    how = Choosing(decoding=Decoding(temperature=0.7, top_k=5), draw=random.Random(2), prompt=3)
    proposal = Draft(language=language).begin(tiny(0)).propose(text, 3, how)
    assert proposal.chances_XV is not None and len(proposal.tokens) == 3
    for row, token in enumerate(proposal.tokens):
        logits_V = torch.tensor(following(language, text))
        assert torch.allclose(how.distribution(logits_V, text), proposal.chances_XV[row].float(), atol=1e-6)
        text.append(token)


def test_a_draft_ends_with_its_context():
    language = tiny()  # 32 tokens
    drafting = Draft(language=language).begin(language)
    assert len(drafting.propose([1] * 31, 4, greedy()).tokens) == 2
    assert drafting.propose([1] * 33, 4, greedy()).tokens == ()


def test_the_first_blocks_are_the_models_own():
    module = tiny().module
    first = prefix(module, 1)
    ids, context = torch.tensor([1, 4, 2]), Context.of((3,), want=frozenset({"residual"}))
    with torch.no_grad():
        _, report = module.hidden(ids, context)
        expected = module.logits(report["blocks.0.residual_ND"], context)
        assert torch.equal(first(ids, Context.of((3,)))[0], expected)
    assert first.embedding is module.embedding and first.blocks[0] is module.blocks[0]
    assert len(first.spec.streams()) == 1
