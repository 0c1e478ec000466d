"""That what is kept of a proposal is distributed as what the target draws by itself."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor

from cutaway.infer.acceptance import Choosing, Proposal, accepted, drawn, judged
from cutaway.infer.decoding import Decoding

VOCAB = 7
WAYS = {
    "temperature and top-k": {"temperature": 1.3, "top_k": 5},
    "top-p": {"temperature": 1.0, "top_p": 0.7},
    "min-p": {"temperature": 1.5, "min_p": 0.2},
    "penalties": {"temperature": 1.0, "repetition_penalty": 1.8, "presence_penalty": 0.7, "frequency_penalty": 0.3},
    "rules": {"temperature": 1.2, "banned": ((2,), (1, 3)), "logit_bias": ((4, 1.5),), "typical_p": 0.9},
}


def table(seed: int) -> Tensor:
    """Logits of the next token behind each, (V, V)."""
    return 1.5 * torch.randn(VOCAB, VOCAB, generator=torch.Generator().manual_seed(seed))


def choosing(seed: int = 0, **told) -> Choosing:
    return Choosing(decoding=Decoding(**told), draw=random.Random(seed), prompt=2)


def pair(target: Tensor, draft: Tensor, how: Choosing) -> tuple[int, int]:
    """Two tokens behind a text, by proposals of two that are drawn from the draft."""
    seen = [3, 5]
    while len(seen) < 4:
        text, chances = list(seen), []
        for _ in range(2):
            chances.append(how.distribution(draft[text[-1]], text))
            text.append(drawn(chances[-1], how.draw))
        proposal = Proposal(tokens=tuple(text[len(seen) :]), chances_XV=torch.stack(chances))
        logits_XV = torch.stack([target[token] for token in text[len(seen) - 1 :]])
        for token in accepted(logits_XV, proposal, seen, how):
            seen.append(token)
    return seen[2], seen[3]


@pytest.mark.parametrize(
    ("way", "count"),
    [*((way, 300) for way in WAYS), *(pytest.param(way, 4000, marks=pytest.mark.proof) for way in WAYS)],
)
def test_pairs_of_tokens_are_distributed_as_the_targets(way, count):
    """Chi-square over the pairs: the second token stands behind one that was kept, or behind one that was not."""
    target, draft, how = table(0), table(1), choosing(4, **WAYS[way])
    found = Counter(pair(target, draft, how) for _ in range(count))
    exact = {}
    for first, p in enumerate(how.distribution(target[5], [3, 5]).tolist()):
        for second, q in enumerate(how.distribution(target[first], [3, 5, first]).tolist()):
            exact[first, second] = p * q
    assert all(exact[one] > 0 for one in found), "a token that the target never draws"
    # Pairs too rare for the statistic are counted as one.
    common = [one for one, p in exact.items() if p * count >= 5]
    rest = max(1e-9, count * (1 - sum(exact[one] for one in common)))
    square = sum((found[one] - count * exact[one]) ** 2 / (count * exact[one]) for one in common)
    square += (count - sum(found[one] for one in common) - rest) ** 2 / rest if rest > 1 else 0.0
    # Mean k and variance 2k with k degrees of freedom: five deviations, for one fixed seed.
    assert square < len(common) + 5 * (2 * len(common)) ** 0.5, (square, len(common))


def test_the_distribution_is_that_of_the_decoding():
    """By hand, in float64."""
    logits_V, seen = table(2)[0], [3, 5, 4, 4]
    found = choosing(**WAYS["penalties"] | {"top_k": 4}).distribution(logits_V, seen)
    z = logits_V.double().tolist()
    z[4] -= 0.7 + 2 * 0.3  # written twice; 3 and 5 are the prompt
    z = [x / 1.8 if x > 0 else x * 1.8 for x in z[3:6]]
    by_hand = logits_V.double().clone()
    by_hand[3:6] = torch.tensor(z, dtype=torch.float64)
    kept = by_hand.argsort(descending=True)[:4]
    exact = torch.zeros(VOCAB, dtype=torch.float64)
    exact[kept] = by_hand[kept].softmax(0)
    assert torch.allclose(found.double(), exact, atol=1e-6)  # float32
    assert choosing(temperature=0.0).distribution(logits_V, seen).tolist() == [
        float(token == int(logits_V.argmax())) for token in range(VOCAB)
    ]


@pytest.mark.parametrize("way", WAYS)
def test_a_certain_proposal_changes_no_token(way):
    """Whatever is proposed, the same random numbers give the same text."""
    target, alone, helped = table(0), choosing(9, **WAYS[way]), choosing(9, **WAYS[way])
    plain, text, guess = [3, 5], [3, 5], random.Random(1)
    while len(plain) < 60:
        plain.append(alone.token(target[plain[-1]], plain))
    while len(text) < 60:
        right = plain[len(text) : len(text) + 2]
        tokens = (*right, guess.randrange(VOCAB)) if guess.random() < 0.7 else (guess.randrange(VOCAB),)
        logits_XV = torch.stack([target[token] for token in (text[-1], *tokens)])
        for token in accepted(logits_XV, Proposal(tokens=tuple(tokens)), text, helped):
            text.append(token)
    assert text[:60] == plain


def test_what_is_refused_never_comes_back():
    p_V, q_V = torch.tensor([0.1, 0.9, 0.0]), torch.tensor([0.6, 0.4, 0.0])
    draw = random.Random(0)
    found = Counter(judged(0, p_V, q_V, draw) for _ in range(3000))
    assert set(found) == {0, 1}
    assert found[0] / 3000 == pytest.approx(1 / 6, abs=0.03)  # p / q; four deviations
    assert {judged(2, torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.25, 0.25, 0.5]), draw) for _ in range(50)} == {
        0,
        1,
    }


def test_equal_distributions_keep_everything():
    p_V = table(3)[0].softmax(0)
    draw = random.Random(0)
    assert all(judged(token, p_V, p_V, draw) == token for token in range(VOCAB) for _ in range(20))


def test_only_what_has_weight_is_drawn():
    class Last(random.Random):
        def random(self) -> float:
            return 1.0 - 2**-53

    assert drawn(torch.tensor([0.3, 0.7, 0.0, 0.0]), Last()) == 1
    assert drawn(torch.tensor([0.0, 0.0, 5.0, 0.0]), random.Random(0)) == 2


def test_a_proposal_can_be_cut():
    whole = Proposal(tokens=(1, 2, 3), chances_XV=torch.eye(3), kind=2)
    cut = whole.first(2)
    assert whole.first(3) is whole and cut.tokens == (1, 2) and cut.kind == 2
    assert cut.chances_XV is not None and cut.chances_XV.shape == (2, 3)


def test_proposals_are_certain_where_a_seed_is_to_give_one_answer():
    assert choosing(temperature=1.0, top_k=2).certain is False
    assert choosing(temperature=1.0, top_k=2).likeliest(table(0)[0], [3, 5]) == int(table(0)[0].argmax())
    assert Choosing(decoding=Decoding(temperature=1.0, seed=1), draw=random.Random(), prompt=1).certain
    assert Choosing(decoding=Decoding(), draw=random.Random(), prompt=1).certain
    own = Choosing(decoding=Decoding(temperature=1.0), draw=random.Random(), prompt=1, sampler=lambda *told: 0)
    assert own.certain
