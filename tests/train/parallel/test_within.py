"""The objective inside the module: one call of `forward` does all, and the loss comes out as it was."""

from __future__ import annotations

import torch

from cutaway.train.parallel.within import Ask, Within

from .models import batch, decoder, near, next_token


def test_it_is_the_objective():
    module, other = decoder(), decoder()
    within, ask = Within(module, next_token()), Ask(next_token())
    calls = []
    within.register_forward_hook(lambda *_: calls.append(1))
    ours, theirs = ask(within, batch(1)), next_token()(other, batch(1))
    ours.total.backward()
    theirs.total.backward()
    assert calls == [1]
    assert ask.splits
    assert (float(ours.total.detach()), ours.count) == (float(theirs.total.detach()), theirs.count)
    near(*({name: weight.grad for name, weight in one.named_parameters()} for one in (module, other)))
    assert dict(within.named_parameters()).keys() == {f"module.{name}" for name, _ in module.named_parameters()}
    assert isinstance(next(within.parameters()), torch.nn.Parameter)
