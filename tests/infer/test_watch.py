"""Every change of a tensor is seen: of floats at once, of the rest within TURNS looks, all at once if asked."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from cutaway.infer.watch import TURNS, Watch


def module() -> nn.Module:
    made = nn.ModuleList(nn.Linear(2, 2) for _ in range(9))
    for part in made:
        part.register_buffer("table", torch.ones(1, dtype=torch.uint8))
        part.register_buffer("later", None)
    return made.requires_grad_(False)


def written(part):
    with torch.no_grad():
        part.weight.add_(1.0)


def moved(part):
    part.weight.data = part.weight.data.clone()


def replaced(part):
    part.weight = nn.Parameter(part.weight.detach(), requires_grad=False)


def packed(part):
    part.table.zero_()


def dropped(part):
    part._buffers["table"] = None


def filled(part):
    part.later = torch.ones(1)


def added(part):
    part.register_buffer("more", torch.ones(1))


@pytest.mark.parametrize("changed", [written, moved, replaced, packed, dropped, filled, added])
@pytest.mark.parametrize("which", range(9))
@pytest.mark.parametrize("looks", range(3))
def test_every_change_is_seen(changed, which, looks):
    made = module()
    one, other = Watch.over(made), Watch.over(made)
    assert all(one.same() for _ in range(TURNS + looks)) and one.same(whole=True)
    changed(made[which])
    assert not other.same(whole=True)
    seen = [one.same() for _ in range(TURNS)]
    assert not all(seen)
    if changed in (written, moved, replaced):
        assert not any(seen)


def test_names_alone_are_watched_where_they_are_given():
    made = module()
    watch = Watch([(made[3]._parameters, "bias")])
    written(made[3])
    assert watch.same(whole=True)
    with torch.no_grad():
        made[3].bias.zero_()
    assert not watch.same(whole=True)


def test_tensors_of_inference_mode_have_no_version():
    with torch.inference_mode():
        made = nn.Linear(2, 2)
        watch = Watch.over(made)
        assert watch.same(whole=True)
        made.bias.data = torch.ones(2)
        assert not watch.same(whole=True)


def test_an_optimisers_step_and_a_loaded_state_show_at_once():
    made = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3))
    optimiser = torch.optim.AdamW(made.parameters(), lr=0.1)
    watch = Watch.over(made)
    made(torch.ones(2, 3)).sum().backward()  # the running mean is written
    assert not all(watch.same() for _ in range(TURNS))
    watch = Watch.over(made)
    optimiser.step()
    assert not watch.same()
    watch = Watch.over(made)
    made.load_state_dict(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)).state_dict())
    assert not watch.same()
