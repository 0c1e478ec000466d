"""The probes' data are right, as an oracle that reads the answer says, and tell who can look back from who cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE
from cutaway.lab.compare.probes import DIGITS, Passkey, Probing, Recall, asked, probed
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.positions import Rope

PROBES = (Passkey(length=24, digits=3, noise=8), Recall(length=20, pairs=4, names=8))


def passkey_answers(ids, probe):
    """By reading: what stands behind the mark, at each place from the question on."""
    mark, ask = ids.index(probe.mark), ids.index(probe.ask)
    return {ask + place: (ids[mark + 1 + place], ask - mark - 1) for place in range(probe.digits)}


def recall_answers(ids, probe):
    """By reading: the pairs in a dictionary, and each later name looked up."""
    told = 2 * probe.pairs
    pairs = {ids[at]: (ids[at + 1], at + 1) for at in range(0, told, 2)}
    assert len(pairs) == probe.pairs, "names stand once among the pairs"
    return {at: (pairs[ids[at]][0], at - pairs[ids[at]][1]) for at in range(told, len(ids))}


READERS = dict(zip(PROBES, (passkey_answers, recall_answers), strict=True))


@pytest.mark.parametrize("probe", PROBES)
def test_the_answers_are_those_that_a_reader_finds(probe):
    ids_BT, asked_BT, back_BT = probe.rows(64, torch.Generator().manual_seed(0))
    assert ids_BT.min() >= 0 and ids_BT.max() < probe.vocab
    for ids, answers, back in zip(ids_BT.tolist(), asked_BT.tolist(), back_BT.tolist(), strict=True):
        found = READERS[probe](ids, probe)
        there = {at: (answer, back[at]) for at, answer in enumerate(answers) if answer != IGNORE}
        assert found == there


def test_the_passkey_stands_everywhere_and_alone():
    probe = PROBES[0]
    ids_BT, _, _ = probe.rows(512, torch.Generator().manual_seed(1))
    marks = (ids_BT == probe.mark).nonzero()[:, 1]
    assert len(marks) == 512 and set(marks.tolist()) == set(range(24 - 2 * 3))
    digits = ((ids_BT >= probe.noise) & (ids_BT < probe.noise + DIGITS)).sum(1)
    assert set(digits.tolist()) == {3 + 2}, "three behind the mark, two more in the answer"


def test_the_hint_asks_each_value_for_its_name_and_nothing_else():
    probe = PROBES[1]
    ids_BT, asked_BT, _ = probe.rows(8, torch.Generator().manual_seed(2))
    hinted_BT = probe.hint(ids_BT, asked_BT)
    assert torch.equal(hinted_BT[:, 8:], asked_BT[:, 8:]) and torch.equal(hinted_BT[:, 1:8:2], ids_BT[:, 0:8:2])
    assert (hinted_BT[:, 0:8:2] == IGNORE).all() and (asked_BT[:, :8] == IGNORE).all()


class Reader(nn.Module):
    """Reads the answer where it stands at most `far` tokens back; else says token 0."""

    def __init__(self, probe, far):
        super().__init__()
        self.probe, self.far = probe, far

    def forward(self, ids_N, context):
        said = torch.zeros(len(ids_N), self.probe.vocab)
        length = self.probe.length
        for row, ids in enumerate(ids_N.view(-1, length).tolist()):
            for at, (answer, back) in READERS[self.probe](ids, self.probe).items():
                said[row * length + at, answer if back <= self.far else 0] = 1.0
        return said, {}


@pytest.mark.parametrize("probe", PROBES)
def test_accuracy_is_of_the_answers_by_how_far_back_they_stand(probe):
    whole = asked(Reader(probe, probe.length), probe, 64, torch.Generator().manual_seed(3))
    assert whole.accuracy == 1.0 and set(whole.quarters) <= {1.0, None}
    near = asked(Reader(probe, probe.length // 4 - 1), probe, 64, torch.Generator().manual_seed(3))
    assert near.quarters[0] == 1.0 and set(near.quarters[1:]) <= {0.0, None}
    assert 0.0 < near.accuracy < 1.0


def test_a_probe_repeats_and_draws_nothing_from_the_caller():
    few, state = Probing(dim=16, heads=2, rows=4, steps=3, tested=8), torch.random.get_rng_state()
    first, again = (probed(mixer(few), PROBES[1], few, 0) for _ in range(2))
    assert first == again and first.steps == 3
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Passkey(length=5, digits=2), "Passkey.length"),
        (lambda: Recall(pairs=17, names=16), "pairs"),
        (lambda: Recall(length=8, pairs=4), "Recall.length"),
        (lambda: Probing(dim=12, heads=4), "Probing.dim"),
        (lambda: replace(Probing(), seeds=0), "Probing.seeds"),
    ],
)
def test_what_cannot_be_is_refused(make, field):
    with pytest.raises(BadInput, match=field):
        make()


def mixer(probing, window=None):
    width = probing.dim // probing.heads
    heads = probing.heads
    return GroupedQuery(heads=heads, kv_heads=heads, head_dim=width, window=window, rope=Rope(width=width))


@pytest.mark.proof
@pytest.mark.parametrize("probe", [Passkey(length=32, digits=1), Recall()])
def test_who_sees_all_learns_it_and_who_sees_two_tokens_does_not(probe):
    probing = Probing(steps=300)
    whole = probed(mixer(probing), probe, probing, 2)
    # Two layers that see two tokens each reach two tokens back; nearly all answers stand further.
    blind = probed(mixer(probing, window=2), probe, replace(probing, steps=60), 2)
    assert whole.accuracy > 0.95, "three seeds had 0.99 and more"
    assert blind.accuracy < 0.5, "chance is a quarter with four pairs, a tenth with ten digits"
