from __future__ import annotations

import copy

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.data.batch import IGNORE, Batch
from cutaway.train.fit import fit
from cutaway.train.loss import Loss
from cutaway.train.objectives.causal import Causal


class Seen(torch.optim.SGD):
    """Keeps the gradients of each step."""

    def __init__(self, module, rate=0.1):
        super().__init__(module.parameters(), rate)
        self.gradients = []

    def step(self):
        held = [weight.grad for group in self.param_groups for weight in group["params"]]
        self.gradients.append([None if one is None else one.clone() for one in held])
        super().step()


def joined(batches):
    return Batch(
        ids_N=torch.cat([batch.ids_N for batch in batches]),
        lengths=tuple(length for batch in batches for length in batch.lengths),
        targets_N=torch.cat([batch.targets_N for batch in batches]),
    )


def test_one_batch_of_eight_is_eight_batches_of_one(decoder, batches):
    small = [batch for length in (3, 9, 1, 5, 7, 2, 8, 4) for batch in batches(1, (length,), seed=length)]
    small[1].targets_N[:4] = IGNORE  # counts differ from lengths
    steps, gradients, weights = [], [], []
    for given, accumulate in (([joined(small)], 1), (small, 8), ([joined(small[:3]), joined(small[3:])], 2)):
        module = decoder().double()
        optimiser = Seen(module)
        steps += fit(module, Causal(), given, optimiser, steps=1, accumulate=accumulate)
        gradients.append(optimiser.gradients[0])
        weights.append(list(module.parameters()))
    assert [step.count for step in steps] == [35] * 3 and [step.tokens for step in steps] == [39] * 3
    for other in (1, 2):
        assert steps[other].loss == pytest.approx(steps[0].loss, rel=1e-13)
        assert steps[other].norm == pytest.approx(steps[0].norm, rel=1e-12)
        for one, two in zip(gradients[0] + weights[0], gradients[other] + weights[other], strict=True):
            # float64 sums in another order
            torch.testing.assert_close(one, two, rtol=1e-10, atol=1e-13)


def test_the_gradient_is_that_of_the_mean(decoder, batches):
    (batch,) = batches(1)
    module = decoder().double()
    other, optimiser = copy.deepcopy(module), Seen(module)
    (step,) = fit(module, Causal(), [batch], optimiser, steps=1, clip=None)
    loss = Causal()(other, batch)
    mean = loss.total / loss.count
    mean.backward()
    assert step.loss == pytest.approx(float(mean.detach()), rel=1e-12)
    for one, two in zip(optimiser.gradients[0], other.parameters(), strict=True):
        torch.testing.assert_close(one, two.grad, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("clip", [1e-3, 0.5, 1e3, None])
def test_clipping_is_that_of_torch(decoder, batches, clip):
    (batch,) = batches(1)
    module = decoder().double()
    other, optimiser = copy.deepcopy(module), Seen(module)
    (step,) = fit(module, Causal(), [batch], optimiser, steps=1, clip=clip)
    loss = Causal()(other, batch)
    (loss.total / loss.count).backward()
    norm = torch.nn.utils.clip_grad_norm_(other.parameters(), torch.inf if clip is None else clip)
    assert step.norm == pytest.approx(float(norm), rel=1e-12)
    for one, two in zip(optimiser.gradients[0], other.parameters(), strict=True):
        torch.testing.assert_close(one, two.grad, rtol=1e-10, atol=1e-14)


def test_packed_is_padded(decoder, batches):
    """A ragged batch in one flat pass has the loss and gradient of its sequences each padded to the longest."""
    (batch,) = batches(1, (12, 5, 9))
    module = decoder().double()
    loss = Causal()(module, batch)
    loss.total.backward()
    packed = [weight.grad.clone() for weight in module.parameters()]
    module.zero_grad()
    rows = zip(batch.ids_N.split(batch.lengths), batch.targets_N.split(batch.lengths), strict=True)
    padded = [
        (torch.nn.functional.pad(ids, (0, 12 - len(ids))), torch.nn.functional.pad(to, (0, 12 - len(to)), value=IGNORE))
        for ids, to in rows
    ]
    ids_N, targets_N = (torch.cat(side) for side in zip(*padded, strict=True))
    other = Causal()(module, Batch(ids_N=ids_N, lengths=(12,) * 3, targets_N=targets_N))
    other.total.backward()
    assert loss.count == other.count == 26
    torch.testing.assert_close(loss.total, other.total, rtol=1e-12, atol=0)
    for one, weight in zip(packed, module.parameters(), strict=True):
        torch.testing.assert_close(one, weight.grad, rtol=1e-10, atol=1e-12)


def test_it_yields_each_step_and_goes_on_where_it_was_told_to(decoder, batches):
    given = batches(6)
    module = decoder()
    whole = list(fit(module, Causal(), given, torch.optim.SGD(module.parameters(), 0.1), steps=6))
    assert [step.index for step in whole] == [1, 2, 3, 4, 5, 6]
    module = decoder()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    parts = list(fit(module, Causal(), given[:2], optimiser, steps=2))
    parts += fit(module, Causal(), given[2:], optimiser, steps=6, start=2)
    assert parts == whole


def test_it_ends_with_the_batches_and_makes_no_part_of_a_step(decoder, batches):
    module = decoder()
    before = copy.deepcopy(module.state_dict())
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    assert [step.index for step in fit(module, Causal(), batches(5), optimiser, steps=9, accumulate=2)] == [1, 2]
    module.load_state_dict(before)
    assert list(fit(module, Causal(), batches(1), optimiser, steps=9, accumulate=2)) == []
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_no_more_batches_are_taken_than_are_needed(decoder, batches):
    stream, module = iter(batches(9)), decoder()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    assert len(list(fit(module, Causal(), stream, optimiser, steps=2, accumulate=2))) == 2
    assert len(list(stream)) == 5


def test_the_caller_may_evaluate_in_between(decoder, batches):
    module = decoder(dropout=0.5)
    for _ in fit(module, Causal(), batches(2), torch.optim.SGD(module.parameters(), 0.1), steps=2):
        assert module.training and module.blocks[0].training
        module.eval()


def test_an_objective_that_looks_across_items_is_not_cut(decoder, batches):
    class Across:
        splits = False

        def __call__(self, module, batch):
            return Causal()(module, batch)

    module = decoder()
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    with pytest.raises(BadInput, match=r"accumulate.*Across"):
        next(fit(module, Across(), batches(2), optimiser, steps=1, accumulate=2))
    assert len(list(fit(module, Across(), batches(2), optimiser, steps=1))) == 1
    with pytest.raises(BadInput, match="accumulate"):
        next(fit(module, Causal(), batches(2), optimiser, steps=1, accumulate=0))


def test_metrics_are_means_over_all_micro_batches(decoder, batches):
    class Measured:
        splits = True

        def __call__(self, module, batch):
            loss = Causal()(module, batch)
            return Loss(total=loss.total, count=loss.count, metrics={"one": torch.tensor(2 * loss.count)})

    module = decoder()
    (step,) = fit(module, Measured(), batches(3), torch.optim.SGD(module.parameters(), 0.1), steps=1, accumulate=3)
    assert step.metrics == {"one": 2.0} and step.count == 78


def test_frozen_weights_and_batches_without_targets_do_no_harm(decoder, batches):
    (batch,) = batches(1)
    nothing = Batch(ids_N=batch.ids_N, lengths=batch.lengths, targets_N=torch.full_like(batch.targets_N, IGNORE))
    module = decoder()
    module.embedding.weight.requires_grad_(False)
    before = copy.deepcopy(module.state_dict())
    (step,) = fit(module, Causal(), [nothing], torch.optim.SGD(module.parameters(), 0.1), steps=1)
    assert (step.loss, step.norm, step.count) == (0.0, 0.0, 0)
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_other_processes_count(decoder, batches):
    """Two processes whose gradients are averaged, and their counts summed: the mean over both."""

    class Two:
        size = 2

        def sum(self, numbers):
            return 2 * numbers

        def length(self, gradients):
            return float(torch.nn.utils.get_total_norm(gradients))

    given, gradients = batches(1), []
    for world in ({}, {"world": Two()}):
        module = decoder()
        optimiser = Seen(module)
        (step,) = fit(module, Causal(), given, optimiser, steps=1, **world)
        gradients.append(optimiser.gradients[0])
    assert step.count == 52
    # The other process is alike: both averaged gradients, and the mean over twice the tokens, are those of one.
    for one, two in zip(*gradients, strict=True):
        torch.testing.assert_close(one, two)


def test_it_learns(decoder, batches):
    module = decoder()
    steps = list(fit(module, Causal(), batches(150), torch.optim.AdamW(module.parameters(), 5e-3), steps=150))
    assert steps[0].loss > 3.4 and steps[-1].loss < 1.2


# float32, one thread: torch.manual_seed(0), the decoder and the batches of conftest.py, AdamW 5e-3, clip 1.
GOLDEN = (
    *(3.473469, 3.438764, 3.268029, 3.322040, 3.195365, 3.170440, 3.280003, 3.047860, 2.962369, 3.029727),
    *(2.847457, 2.801307, 2.698427, 2.673441, 2.525529, 2.506684, 2.472556, 2.494728, 2.401420, 2.439647),
)


def test_the_first_twenty_losses_are_those_committed(decoder, batches):
    module = decoder()
    optimiser = torch.optim.AdamW(module.parameters(), 5e-3)
    losses = [step.loss for step in fit(module, Causal(), batches(20), optimiser, steps=20)]
    # In float64 the curve differs by 5e-7; other processors sum float32 in other orders.
    assert losses == pytest.approx(GOLDEN, rel=2e-5)
