from __future__ import annotations

import copy

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cutaway.base.errors import BadInput
from cutaway.train.average import Average
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.schedules import Cosine, Scheduled
from cutaway.train.validation import validate


def built(decoder, **told):
    module = decoder()
    return module, Average(AdamW(rate=5e-3).build(module), module, **told)


def test_it_is_torchs_moving_average(decoder, batches):
    module, average = built(decoder, decay=0.9, warm=False)
    twin = AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.9))
    twin.update_parameters(module)  # its first update is a copy, as ours is when it is made
    for _ in fit(module, Causal(), batches(5), average, steps=5):
        twin.update_parameters(module)
    for one, other in zip(average.averages, twin.module.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach())


def test_warm_averages_follow_the_weights_at_first():
    weight = torch.nn.Linear(1, 1, bias=False)
    weight.weight.data.fill_(0.0)

    class Plus:
        def step(self):
            weight.weight.data += 1.0

    average, expected = Average(Plus(), weight, decay=0.5), 0.0
    for step in range(1, 11):
        average.step()
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
        assert float(average.averages[0]) == pytest.approx(expected, rel=1e-6)


def test_the_average_is_taken_and_given_back_even_after_an_error(decoder, batches):
    module, average = built(decoder, decay=0.9)
    list(fit(module, Causal(), batches(3), average, steps=3))
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(OSError), average.taken():
        for weight, kept in zip(module.parameters(), average.averages, strict=True):
            assert torch.equal(weight, kept)
        raise OSError
    assert all(torch.equal(one, before[name]) for name, one in module.state_dict().items())


def test_narrow_weights_come_back_bit_by_bit_and_their_average_stays_wide():
    module = torch.nn.Linear(4, 4).bfloat16()
    average = Average(torch.optim.SGD(module.parameters(), 0.1), module, decay=0.5, warm=False)
    module.weight.data += 1.0
    average.step()
    before, kept = module.weight.detach().clone(), average.averages[0].clone()
    assert kept.dtype == torch.float32
    with average.taken():
        assert not torch.equal(module.weight, before)
    assert torch.equal(module.weight, before) and torch.equal(average.averages[0], kept)


def test_the_average_scores_better_at_a_high_rate(decoder, batches):
    module = decoder()
    average = Average(AdamW(rate=3e-2).build(module), module, decay=0.98)
    list(fit(module, Causal(), batches(150), average, steps=150))
    held = batches(10, seed=1)
    alone = validate(module, Causal(), held).loss
    with average.taken():
        assert validate(module, Causal(), held).loss < alone


def test_a_restored_state_goes_on_bit_by_bit(decoder, batches):
    given, ends = batches(6), []
    for cut in (6, 3):
        module = decoder()
        average = Average(Scheduled(AdamW(rate=5e-3).build(module), Cosine(steps=6)), module, decay=0.9)
        list(fit(module, Causal(), given[:cut], average, steps=cut))
        weights, state = copy.deepcopy(module.state_dict()), copy.deepcopy(average.state_dict())
        assert all(isinstance(value, torch.Tensor | int | float | str) for value in state.values())
        module = decoder(seed=1)
        average = Average(Scheduled(AdamW(rate=5e-3).build(module), Cosine(steps=6)), module, decay=0.9)
        module.load_state_dict(weights)
        average.load_state_dict(state)
        list(fit(module, Causal(), given[cut:], average, steps=6, start=cut))
        ends.append([*module.parameters(), *average.averages])
        assert average.count == 6
    assert all(torch.equal(one, other) for one, other in zip(*ends, strict=True))


def test_a_state_without_averages_and_an_impossible_decay_are_refused(decoder):
    _, average = built(decoder)
    with pytest.raises(BadInput, match=r"average\.count"):
        average.load_state_dict(average.optimiser.state_dict())
    with pytest.raises(BadInput, match=r"Average\.decay"):
        built(decoder, decay=1.0)


def test_frozen_weights_are_not_averaged_and_the_rate_is_the_optimisers(decoder):
    module = decoder()
    module.embedding.weight.requires_grad_(False)
    average = Average(AdamW(rate=5e-3).build(module), module)
    assert "embedding.weight" not in average.names and average.rate == 5e-3
    average.scale(0.5)
    assert average.rate == 2.5e-3
