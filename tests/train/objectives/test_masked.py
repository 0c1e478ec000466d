from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.models.encoder import Encoder
from cutaway.models.masked_head import MaskedHead
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.ops import cross_entropy
from cutaway.train.fit import fit
from cutaway.train.objectives.masked import Masked, corrupt
from cutaway.train.validation import validate

RULE = Masked(mask=3, vocab=50, special=(0, 1, 2))


def ids(count=200_000):
    return torch.randint(50, (count,), generator=torch.Generator().manual_seed(1))


def drawn(rule=RULE, seed=0):
    return corrupt(ids(), rule, torch.Generator().manual_seed(seed))


def test_shares_are_those_of_the_paper():
    ids_N = ids()
    seen_N, targets_N = drawn()
    chosen_N = targets_N != IGNORE
    ordinary = ids_N >= 4
    # Of 184,000 ordinary tokens; five deviations of a share of 0.15 are 0.004, of 0.8 in 27,600 are 0.012.
    assert float((chosen_N & ordinary).sum() / ordinary.sum()) == pytest.approx(0.15, abs=0.004)
    masked = (seen_N == 3) & chosen_N
    swapped = chosen_N & ~masked & (seen_N != ids_N)
    count = int(chosen_N.sum())
    assert int(masked.sum()) / count == pytest.approx(0.8, abs=0.012)
    # A random token is the same as before once in 46.
    assert int(swapped.sum()) / count == pytest.approx(0.1 * 45 / 46, abs=0.009)


def test_what_was_not_chosen_is_left_and_what_was_is_asked_for():
    ids_N = ids()
    before = ids_N.clone()
    seen_N, targets_N = corrupt(ids_N, RULE, torch.Generator().manual_seed(0))
    chosen_N = targets_N != IGNORE
    assert torch.equal(ids_N, before)
    assert torch.equal(seen_N[~chosen_N], ids_N[~chosen_N]) and torch.equal(targets_N[chosen_N], ids_N[chosen_N])


def test_special_tokens_are_never_chosen_and_never_put_in():
    ids_N = ids()
    for seed in range(3):
        seen_N, targets_N = drawn(seed=seed)
        assert bool((targets_N[ids_N < 4] == IGNORE).all())
        put_in = seen_N[(seen_N != ids_N) & (seen_N != 3)]
        assert int(put_in.min()) == 4 and int(put_in.max()) == 49  # all others, from the first to the last
    scattered = replace(RULE, mask=25, special=(0, 49, 24))
    seen_N, targets_N = drawn(scattered)
    put_in = seen_N[(targets_N != IGNORE) & (seen_N != ids_N) & (seen_N != 25)]
    assert sorted(set(put_in.tolist())) == [id for id in range(50) if id not in (0, 24, 25, 49)]
    counts = torch.bincount(put_in, minlength=50)[[id for id in range(50) if id not in (0, 24, 25, 49)]]
    assert int(counts.min()) > 20 and int(counts.max()) < 100  # 57 of each, five deviations on both sides


def test_it_is_a_function_of_the_seed():
    one, two, other = drawn(), drawn(), drawn(seed=1)
    assert torch.equal(one[0], two[0]) and torch.equal(one[1], two[1]) and not torch.equal(one[1], other[1])
    torch.manual_seed(5)
    first = corrupt(ids(100), RULE)
    second = corrupt(ids(100), RULE)
    torch.manual_seed(5)
    again = corrupt(ids(100), RULE)
    assert torch.equal(first[1], again[1]) and not torch.equal(first[1], second[1])


def encoder():
    mixer = GroupedQuery(heads=4, kv_heads=4, head_dim=8, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=64), outside=LayerNorm())
    torch.manual_seed(0)
    return Encoder(
        vocab=50,
        dim=32,
        blocks=(block,) * 2,
        length=32,
        positions=Learned(length=32),
        kinds=2,
        embedding_norm=LayerNorm(),
        head=MaskedHead(norm=LayerNorm()),
    ).build()


def batch(seed):
    """Rows of one of two kinds: what is masked can be told from its place and any neighbour."""
    kind_B1 = torch.randint(2, (6, 1), generator=torch.Generator().manual_seed(seed))
    ids_N = (4 + 20 * kind_B1 + torch.arange(12)).flatten()
    return Batch(ids_N=ids_N, lengths=(12,) * 6, kinds_N=torch.zeros_like(ids_N))


def test_it_is_cross_entropy_of_the_chosen_rows():
    module, given = encoder().double().eval(), batch(0)
    loss = RULE(module, given)
    seen_N, targets_N = corrupt(given.ids_N, RULE, torch.Generator().manual_seed(0))
    logits_NV, _ = module(seen_N, Context.of(given.lengths, causal=False), kinds_N=given.kinds_N)
    torch.testing.assert_close(loss.total, F.cross_entropy(logits_NV, targets_N, reduction="sum"))
    assert loss.count == int((targets_N != IGNORE).sum()) > 0
    assert int(loss.metrics["accuracy"]) == int((logits_NV.argmax(-1) == targets_N).sum())


class Rows(TorchDispatchMode):
    """The most rows of scores (of a vocabulary of 50) in any tensor that an operation makes."""

    def __init__(self):
        super().__init__()
        self.most = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        for one in made if isinstance(made, tuple | list) else (made,):
            if isinstance(one, torch.Tensor) and one.dim() == 2 and one.shape[1] == 50:
                self.most = max(self.most, len(one))
        return made


def test_in_chunks_it_is_the_same_and_all_scores_are_never_there_at_once(monkeypatch):
    rule, given, seen = replace(RULE, share=0.9), batch(0), []
    for small, chunk, rows in ((2**20, 2**22, 66), (0, 8 * 50, 32)):
        monkeypatch.setattr(cross_entropy, "SMALL", small)
        monkeypatch.setattr(cross_entropy, "CHUNK", chunk)
        module = encoder().double().eval()
        with Rows() as counted:
            loss = rule(module, given)
            loss.total.backward()
        # All 66 that are asked for; 8 at a time, and the 32 of the head's matrix when its gradient is turned.
        assert counted.most == rows and loss.count == 66
        slopes = {name: weight.grad for name, weight in module.named_parameters()}
        seen.append((loss.total.detach(), loss.metrics["accuracy"], slopes))
    torch.testing.assert_close(seen[0], seen[1])


def test_a_module_that_is_no_encoder_is_asked_for_scores():
    module, given = encoder().double().eval(), batch(0)

    class Other(nn.Module):
        def forward(self, *told, **more):
            return module(*told, **more)

    torch.nn.init.normal_(module.head.bias)  # which begins as zeros
    ours, other = RULE(module, given), RULE(Other().eval(), given)
    torch.testing.assert_close(ours.total, other.total)
    weights = list(module.parameters())
    slopes = [torch.autograd.grad(loss.total, weights, allow_unused=True) for loss in (ours, other)]
    torch.testing.assert_close(*slopes)
    assert ours.count == other.count and torch.equal(ours.metrics["accuracy"], other.metrics["accuracy"])


def test_evaluation_masks_alike_and_training_anew():
    module, given = encoder(), [batch(0)]
    assert validate(module, RULE, given) == validate(module, RULE, given)
    assert validate(module, RULE, given) != validate(module, replace(RULE, seed=1), given)
    assert float(RULE(module, given[0]).total.detach()) != float(RULE(module, given[0]).total.detach())


def test_an_encoder_learns_by_it():
    module = encoder()
    optimiser = torch.optim.AdamW(module.parameters(), 5e-3)
    torch.manual_seed(0)
    steps = list(fit(module, RULE, (batch(seed) for seed in range(120)), optimiser, steps=120))
    assert steps[0].loss > 3.5 and steps[0].metrics["accuracy"] < 0.3
    score = validate(module, RULE, [batch(seed) for seed in range(200, 210)])
    assert score.loss < 1.0 and score.metrics["accuracy"] > 0.8


@pytest.mark.parametrize(
    "wrong",
    [{"mask": 50}, {"special": (60,)}, {"share": 1.0}, {"masked": 0.95}, {"swapped": -0.1}, {"special": range(50)}],
)
def test_an_impossible_rule_is_refused(wrong):
    with pytest.raises(BadInput, match="Masked"):
        replace(RULE, **{name: tuple(value) if name == "special" else value for name, value in wrong.items()})
