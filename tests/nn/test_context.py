"""The seam carries what is coming: three toy mixers that keep a latent, a strided stream with a window, and a state."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from torch import nn

from cutaway.base.errors import BadInput
from cutaway.lab.checks.mixer import check_mixer
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.stream import Stream
from cutaway.ops.attend import attend_readable

DIM = 6


class ToyLatent(nn.Module):
    """One latent vector per token, from which keys and values are expanded when they are read (as MLA does)."""

    streams = (Stream("latent", (3,)),)

    def __init__(self):
        super().__init__()
        self.down, self.up, self.query = nn.Linear(DIM, 3), nn.Linear(3, 2 * DIM), nn.Linear(DIM, DIM)

    def forward(self, x_ND, context):
        (latent_SC,), see = context.extend(latent=self.down(x_ND))
        k_SGK, v_SGK = self.up(latent_SC).unflatten(-1, (2, 2, 3)).unbind(1)
        q_NHK = self.query(x_ND).unflatten(-1, (2, 3))
        return attend_readable(q_NHK, k_SGK, v_SGK, see, scale=0.5).flatten(1), {}


class ToyStrided(nn.Module):
    """Keys of the last 4 tokens, and the mean of every whole 3 of them (as NSA's compression does)."""

    streams = (Stream("near", (DIM,), last=4), Stream("far", (DIM,), every=3))

    def forward(self, x_ND, context):
        starts = context.cache.lengths if context.cache else (0,) * len(context.lengths)
        (near_SD,), see = context.extend(window=4, near=x_ND)
        nears = near_SD.split(see.keys)
        made, counts = [], []
        for start, count, near in zip(starts, context.lengths, nears, strict=True):
            # The near rows end with this pass's; those of the last incomplete 3 are among them.
            first_held = start + count - near.shape[0]
            ends = [end for end in range(start + 1, start + count + 1) if end % 3 == 0]
            made += [near[end - 3 - first_held : end - first_held].mean(0) for end in ends]
            counts.append(len(ends))
        far_new = torch.stack(made) if made else x_ND.new_zeros(0, DIM)
        if context.cache:
            context.cache.append(context.layer, "far", far_new, tuple(counts))
            far_SD, fars = context.cache.read(context.layer, "far")
        else:
            far_SD, fars = far_new, tuple(counts)
        outputs = []
        for index, (start, x, near, far) in enumerate(
            zip(starts, x_ND.split(context.lengths), nears, far_SD.split(fars), strict=True)
        ):
            closed = (torch.arange(len(x))[:, None] + start + 1) // 3  # far rows whose last token has come
            seen = torch.cat([see.mask(index), torch.arange(len(far)) < closed], 1)
            scores = (x @ torch.cat([near, far]).T).masked_fill(~seen, float("-inf"))
            outputs.append(scores.softmax(-1) @ torch.cat([near, far]))
        return torch.cat(outputs), {}


class ToyRecurrent(nn.Module):
    """One state per sequence: h = 0.7 h + x; y = tanh(h)."""

    streams = (Stream("state", (DIM,), per="sequence"),)

    def forward(self, x_ND, context):
        states = [x_ND.new_zeros(DIM) for _ in context.lengths]
        if context.cache:
            states = list(context.cache.read(context.layer, "state")[0])
        outputs = []
        for index, x in enumerate(x_ND.split(context.lengths)):
            for row in x:
                states[index] = 0.7 * states[index] + row
                outputs.append(states[index].tanh())
        if context.cache:
            context.cache.replace(context.layer, "state", torch.stack(states))
        return torch.stack(outputs) if outputs else x_ND, {}


@pytest.mark.parametrize("toy", [ToyLatent, ToyStrided, ToyRecurrent])
def test_a_toy_mixer_keeps_every_law(toy):
    torch.manual_seed(0)
    check_mixer(toy(), toy.streams, DIM)


class Forgetful(ToyRecurrent):
    """Wrong on purpose: starts each pass from a zero state."""

    def forward(self, x_ND, context):
        return super().forward(x_ND, Context.of(context.lengths))


class Peeking(ToyLatent):
    """Wrong on purpose: sees the future when all tokens come at once."""

    def forward(self, x_ND, context):
        return super().forward(x_ND, Context(**{**vars(context), "causal": False}))


class Leaking(ToyRecurrent):
    """Wrong on purpose: a sequence of the batch goes on from the state of the one before it."""

    def forward(self, x_ND, context):
        if context.cache:
            return super().forward(x_ND, context)
        return super().forward(x_ND, Context.of((x_ND.shape[0],)))


@pytest.mark.parametrize("wrong", [Forgetful, Peeking, Leaking])
def test_the_laws_catch_a_wrong_mixer(wrong):
    torch.manual_seed(0)
    with pytest.raises(AssertionError, match="differs"):
        check_mixer(wrong(), wrong.streams, DIM)


def test_context_needs_as_many_lengths_as_the_cache_has_sequences():
    cache = ContiguousCache((ToyLatent.streams,), sequences=2)
    with pytest.raises(BadInput, match="2 sequences"):
        Context.of((3,), cache=cache)


def test_positions_go_on_behind_the_cache():
    cache = ContiguousCache((ToyLatent.streams,), sequences=2)
    cache.append(0, "latent", torch.zeros(3, 3), (1, 2))
    cache.advance((1, 2))
    assert Context.of((2, 1), cache=cache).positions_N.tolist() == [1, 2, 2]


def test_at_another_layer_nothing_else_is_another():
    """`at` copies by hand: a field that it forgets would be its default again."""
    told = {field.name: object() for field in fields(Context)}
    context = Context(**told)
    seen = vars(context.at(5))
    assert {name for name in told if seen[name] is not told[name]} == {"layer"} and seen["layer"] == 5


def test_once_computes_once_for_all_layers():
    context = Context.of((1,))
    made = []
    for layer in range(3):
        context.at(layer).once("key", lambda: made.append(1))
    assert len(made) == 1
