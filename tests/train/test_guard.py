from __future__ import annotations

import copy
import json
import math

import pytest
import torch

from cutaway.base.errors import BadInput, CutawayError
from cutaway.data.batch import Batch
from cutaway.train.fit import fit
from cutaway.train.guard import Guard
from cutaway.train.loss import Loss
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.precision import Float16
from cutaway.train.schedules import Cosine, Scheduled
from cutaway.train.validation import validate


class Poisoned:
    """Causal, but for batches whose first id is among `bad`: those are multiplied by `times` (a sum or a gradient)."""

    splits = True

    def __init__(self, bad, times=1.0, slope=1.0):
        self.bad, self.times, self.slope = {id(batch) for batch in bad}, times, slope

    def __call__(self, module, batch):
        loss = Causal()(module, batch)
        if id(batch) not in self.bad:
            return loss
        if loss.total.requires_grad:
            loss.total.register_hook(lambda slope: slope * self.slope)
        return Loss(total=loss.total * self.times, count=loss.count)


class Same(Batch):
    """A batch that stays the same object on the same device, so that it can be told."""

    def to(self, device):
        return self


def same(batches):
    return [Same(ids_N=batch.ids_N, lengths=batch.lengths, targets_N=batch.targets_N) for batch in batches]


def noise(batches, count):
    """Batches whose targets have nothing to do with what came before."""
    for number, batch in enumerate(batches[:count]):
        make = torch.Generator().manual_seed(number)
        yield Same(
            ids_N=batch.ids_N, lengths=batch.lengths, targets_N=torch.randint(32, batch.ids_N.shape, generator=make)
        )


def trained(module, objective, given, guard=None, precision=None):
    optimiser = Scheduled(AdamW(rate=5e-3).build(module), Cosine(steps=400))
    told = {} if precision is None else {"precision": precision}
    if guard is not None:
        objective, told = guard.watch(objective), {"precision": guard.hold(*told.values())}
    steps = list(fit(module, objective, given, optimiser, steps=len(given), **told))
    return optimiser, steps


@pytest.mark.parametrize(
    ("poison", "cause"),
    [
        ({"times": math.nan}, "loss not finite"),
        ({"times": math.inf}, "loss not finite"),
        ({"slope": math.nan}, "gradient not finite"),
        ({"slope": math.inf}, "gradient not finite"),
        ({"times": 50.0}, "loss spike"),
        ({"slope": 1e4}, "gradient spike"),
    ],
)
def test_a_bad_step_is_as_if_its_batch_had_never_been(decoder, batches, poison, cause):
    given = same(batches(26))
    bad = given[20]
    clean = decoder(blocks=1)
    kept_optimiser, _ = trained(clean, Causal(), given[:20] + given[21:])
    module = decoder(blocks=1)
    guard = Guard(module, window=10)
    optimiser, steps = trained(module, Poisoned([bad], **poison), given, guard)
    assert [(event.step, event.cause, event.done) for event in guard.events] == [(21, cause, "skipped")]
    assert len(steps) == 26
    for one, other in zip(module.parameters(), clean.parameters(), strict=True):
        assert torch.equal(one, other)
    for name, value in kept_optimiser.state_dict().items():
        assert torch.equal(torch.as_tensor(value), torch.as_tensor(optimiser.state_dict()[name])), name


def test_targets_of_pure_noise_are_a_spike_once_the_model_knows_better(decoder, batches):
    given = same(batches(140))
    bad = list(noise(given, 1))
    module = decoder(blocks=1)
    guard = Guard(module, window=20)
    _, steps = trained(module, Causal(), [*given[:120], *bad, *given[120:]], guard)
    assert steps[120].loss > 3.0 > 1.5 > steps[119].loss
    assert [(event.step, event.cause) for event in guard.events] == [(121, "loss spike")]


def test_without_a_guard_the_same_poison_ends_training(decoder, batches):
    given = same(batches(30))
    _, steps = trained(decoder(blocks=1), Poisoned([given[10]], times=math.nan), given)
    assert math.isnan(steps[-1].loss)


def test_an_ordinary_run_is_left_alone(decoder, batches):
    given, ends = batches(120), []
    for guarded in (False, True):
        module = decoder(blocks=1)
        guard = Guard(module, window=40) if guarded else None
        trained(module, Causal(), given, guard)
        ends.append(list(module.parameters()))
    assert guard is not None and guard.events == []
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_damaged_weights_go_back_to_the_last_copy_and_training_ends_near_the_undamaged(decoder, batches):
    given, held = batches(180), batches(8, seed=1)
    module = decoder(blocks=1)
    trained(module, Causal(), given)
    unharmed = validate(module, Causal(), held).loss
    module = decoder(blocks=1)
    guard = Guard(module, window=40, keep=10, patience=3)
    optimiser = Scheduled(AdamW(rate=5e-3).build(module), Cosine(steps=400))
    losses = []
    for step in fit(module, guard.watch(Causal()), given, optimiser, steps=180, precision=guard.hold()):
        losses.append(step.loss)
        if step.index == 104:
            good = copy.deepcopy(guard.copy["module"])
            for weight in module.parameters():
                weight.data += torch.randn_like(weight)
        if step.index == 107:
            assert all(torch.equal(one, good[name]) for name, one in module.state_dict().items())
            assert optimiser.count == 100  # the copy of step 101, before it was made
    assert [(event.step, event.done) for event in guard.events] == [
        (105, "skipped"),
        (106, "skipped"),
        (107, "rolled back"),
    ]
    assert losses[104] > 2 * losses[103] and losses[107] < 1.5 * losses[103]
    # Ten steps were lost and three batches not learned from: about as much as the loss falls in so many.
    assert validate(module, Causal(), held).loss < unharmed + 0.1


def test_poison_without_end_is_an_error_and_not_a_silent_loop(decoder, batches):
    given = same(batches(60))
    module = decoder(blocks=1)
    with pytest.raises(CutawayError, match=r"diverged.*loss not finite"):
        trained(module, Poisoned(given[30:], times=math.nan), given, Guard(module, window=20))
    assert all(bool(weight.isfinite().all()) for weight in module.parameters())
    with pytest.raises(CutawayError, match="diverged"):
        trained(module, Poisoned(given, times=math.nan), given, Guard(module, window=20, keep=None))


def test_data_that_have_changed_for_good_are_learned_after_all(decoder, batches):
    given = same(batches(120))
    other = list(noise(given * 2, 60))
    module = decoder(blocks=1)
    guard = Guard(module, window=20, keep=10)
    _, steps = trained(module, Causal(), [*given, *other], guard)
    assert len(steps) == 180 and guard.events[-1].step < 130
    assert guard.events[-1].done == "rolled back"


def test_what_overflows_under_float16_is_left_to_its_factor(decoder, batches):
    module, given = decoder(blocks=1), same(batches(8))
    precision = Float16(factor=2.0**40)
    guard = Guard(module, window=4)
    trained(module, Causal(), given, guard, precision)
    assert precision.skipped == 8 and precision.factor == 2.0**32
    assert guard.events == [] and guard.copy is None


def test_micro_batches_evaluation_and_other_processes(decoder, batches):
    class Two:
        size = 2

        def sum(self, numbers):
            return 2 * numbers

        def length(self, gradients):
            return 0.0

    given, module = same(batches(8)), decoder(blocks=1)
    guard = Guard(module, window=4, world=Two())
    optimiser = torch.optim.SGD(module.parameters(), 0.1)
    objective = guard.watch(Poisoned([given[5]], times=math.nan))
    assert objective.splits is True
    for step in fit(module, objective, given, optimiser, steps=4, accumulate=2, precision=guard.hold()):
        validate(module, objective, given[5:6])  # what is bad there is no step
        assert math.isnan(step.loss) == (step.index == 3)
    assert [event.step for event in guard.events] == [3]
    assert guard.losses[0] == pytest.approx(3.47, abs=0.1)


def test_news_are_told_once_and_read_well(decoder, batches):
    given, module = same(batches(9)), decoder(blocks=1)
    guard = Guard(module, window=4)
    trained(module, Poisoned(given[4:5], times=math.nan), given, guard)
    (event,) = guard.news()
    assert guard.news() == [] and guard.events == [event]
    assert str(event).startswith("step 5 skipped: loss not finite (loss nan, gradient ")


def test_its_state_is_json_and_goes_on_deciding_alike(decoder, batches):
    given = same(batches(30))
    bad = Poisoned([given[25]], slope=1e4)
    module = decoder(blocks=1)
    guard = Guard(module, window=10)
    trained(module, bad, given[:20], guard)
    state = json.loads(json.dumps(guard.hold().state_dict(), allow_nan=False))
    other = Guard(module, window=10)
    other.hold().load_state_dict(state)
    assert (other.losses, other.norms, other.step) == (guard.losses, guard.norms, 20)
    trained(module, bad, given[20:], other)
    assert [event.step for event in other.events] == [26]


@pytest.mark.parametrize("wrong", [{"window": 1}, {"width": 0.0}, {"patience": 0}, {"keep": 0}])
def test_an_impossible_one_is_refused(decoder, wrong):
    with pytest.raises(BadInput, match="Guard"):
        Guard(decoder(blocks=1), **wrong)
