from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some

from cutaway.base.errors import BadInput
from cutaway.data.batch import Batch
from cutaway.train.loss import Loss
from cutaway.train.objectives import spans
from cutaway.train.objectives.spans import Spans, corrupt, counts, cut, noise

RULE = Spans(sentinel=131, sentinels=32, start=0, end=1)


def test_the_papers_own_example():
    """Figure 2: "Thank you for inviting me to your party last week ." with <X> = 99, <Y> = 98, <Z> = 97."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    ids = list(range(len(words)))
    gone = [word in ("for", "inviting", "last") for word in words]
    source, target = cut(ids, gone, 99, 10)
    said = {99: "<X>", 98: "<Y>", 97: "<Z>"}
    read = [" ".join(said.get(id) or words[id] for id in side) for side in (source, target)]
    assert read == ["Thank you <X> me to your party <Y> week .", "<X> for inviting <Y> last <Z>"]


@pytest.mark.parametrize(
    ("tokens", "source", "target"),
    # T5's code cuts text into pieces of 568 tokens, so that its sources have 512 (random_spans_helper); its targets
    # of 114 lack the last mark, which ours have.
    [(568, 512, 114 + 1), (141, 128, 29 + 1)],
)
def test_lengths_are_those_of_t5(tokens, source, target):
    rule = Spans(sentinel=32_099, start=0, end=1)
    for seed in range(3):
        made = corrupt(range(tokens), rule, torch.Generator().manual_seed(seed))
        assert tuple(map(len, made)) == (source, target)


@given(
    length=some.integers(2, 300),
    share=some.floats(0.01, 0.9),
    mean=some.floats(1.0, 10.0),
    seed=some.integers(0, 2**32 - 1),
)
def test_nothing_is_lost_and_lengths_follow_from_counts(length, share, mean, seed):
    rule = Spans(sentinel=2999, sentinels=1000, share=share, mean=mean)
    ids = list(range(length))
    source, target = corrupt(ids, rule, torch.Generator().manual_seed(seed))
    noisy, runs = counts(length, share, mean)
    assert len(source) == length - noisy + runs and len(target) == noisy + runs + 1
    assert source[0] == 0 and target[0] == 2999 and target[-1] == 2999 - runs
    parts: dict[int, list[int]] = {}
    for id in target:
        if id >= length:
            mark = id
            parts[mark] = []
        else:
            parts[mark].append(id)
    assert all(parts[2999 - number] for number in range(runs))
    assert [id for seen in source for id in (parts[seen] if seen >= length else [seen])] == ids


def test_spans_are_three_tokens_long_on_average_and_anywhere():
    make = torch.Generator().manual_seed(0)
    masks = torch.tensor([noise(100, 0.15, 3.0, make) for _ in range(2000)])
    starts = masks[:, 1:] & ~masks[:, :-1]
    assert int(masks.sum()) == 15 * 2000 and int(starts.sum()) == 5 * 2000
    often = masks.float().mean(0)
    # Away from the edges every place is noise about equally often; 0.05 is six deviations.
    assert float((often[20:80] - 0.15).abs().max()) < 0.05 and not bool(masks[:, 0].any())


def test_it_is_a_function_of_the_seed():
    one, two, other = (corrupt(range(100), RULE, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert one == two != other


def test_more_spans_than_marks_are_refused():
    assert cut([5, 6, 7], [False, True, False], 1, 2) == ([5, 1, 7], [1, 6, 0])
    with pytest.raises(BadInput, match="marks"):
        cut([5, 6, 7, 8], [False, True, False, True], 1, 2)


class Recorder(torch.nn.Module):
    """Scores that know nothing; what it was given is kept."""

    def __init__(self):
        super().__init__()
        self.scores = torch.nn.Parameter(torch.zeros(132))
        self.seen = []

    def forward(self, ids_N, context, *, source):
        self.seen.append((ids_N, context.lengths, source))
        return self.scores.expand(len(ids_N), -1), {}


def test_the_objective_hands_over_what_was_cut():
    module, ids_N = Recorder().eval(), torch.arange(10, 71)
    loss = RULE(module, Batch(ids_N=ids_N, lengths=(40, 1, 20)))
    make = torch.Generator().manual_seed(0)
    pairs = [corrupt(ids.tolist(), RULE, make) for ids in (ids_N[:40], ids_N[41:])]
    ((read_N, lengths, source),) = module.seen
    assert source.lengths == tuple(len(pair[0]) for pair in pairs)
    assert source.ids_N.tolist() == pairs[0][0] + pairs[1][0]
    assert lengths == tuple(len(pair[1]) for pair in pairs)
    assert read_N.tolist() == [0, *pairs[0][1][:-1], 0, *pairs[1][1][:-1]]
    assert isinstance(loss, Loss) and loss.count == sum(lengths)
    assert float(loss.total.detach()) == pytest.approx(loss.count * torch.tensor(132.0).log().item(), rel=1e-6)


def test_evaluation_cuts_alike_and_training_anew():
    batch = Batch(ids_N=torch.arange(10, 110), lengths=(100,))
    for module, same in ((Recorder().eval(), True), (Recorder().train(), False)):
        RULE(module, batch)
        RULE(module, batch)
        (one, *_), (two, *_) = module.seen
        assert torch.equal(one, two) is same


@pytest.mark.parametrize(
    "wrong", [{"share": 0.0}, {"share": 1.0}, {"mean": 0.5}, {"sentinels": 1}, {"sentinels": 200}, {"smoothing": -1.0}]
)
def test_an_impossible_rule_is_refused(wrong):
    with pytest.raises(BadInput, match="Spans"):
        replace(RULE, **wrong)
    assert spans.counts(2, 0.99, 1.0) == (1, 1)
