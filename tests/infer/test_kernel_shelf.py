"""Plans are made once for a module, lent to one user at a time, and go with the module."""

from __future__ import annotations

import gc
import threading
import weakref
from contextlib import ExitStack

import pytest
import torch
from tests.infer.quantising import decoder

from cutaway.infer import kernel_shelf
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.engine import Engine
from cutaway.infer.kernel_shelf import Shelf
from cutaway.infer.request import Request
from cutaway.infer.watch import Watch
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED

KERNELS = NAMED["kernels"]
TOLD = {"dtype": torch.float32, "device": torch.device("cpu")}

pytestmark = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def test_all_readers_and_engines_share_one_plan():
    module = decoder("llama")
    held = [Continuation(module, KERNELS, **TOLD) for _ in range(3)]
    expected = [Continuation(module, KERNELS, **TOLD).feed(list(range(at, at + 9))) for at in (1, 20, 40)]
    shelf = Shelf.of(module, int8=False)
    (plan,) = shelf.idle
    for step in range(3):  # turn by turn, with an engine in between
        for one, at in zip(held, (1, 20, 40), strict=True):
            logits_V = one.feed(list(range(at + 3 * step, at + 3 * step + 3)))
            if step == 2:
                torch.testing.assert_close(logits_V, expected[(1, 20, 40).index(at)], rtol=1e-4, atol=1e-4)
        Engine(module, forms=KERNELS).answer([Request(prompt=(1, 2), decoding=Decoding(max_tokens=2))])
    assert shelf.idle == [plan]


def test_threads_have_a_plan_each():
    module = decoder("gemma")
    prompts = [[(7 * at + i) % 96 for i in range(20)] for at in range(4)]
    expected = [Continuation(module, KERNELS, **TOLD).feed(prompt) for prompt in prompts]
    found: list[list[torch.Tensor]] = [[] for _ in prompts]

    def read(at: int) -> None:
        for _ in range(12):
            found[at].append(Continuation(module, KERNELS, **TOLD).feed(prompts[at]))

    threads = [threading.Thread(target=read, args=(at,)) for at in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(one) == 12 for one in found)
    assert all(torch.equal(logits_V, right) for one, right in zip(found, expected, strict=True) for logits_V in one)
    assert 1 <= len(Shelf.of(module, int8=False).idle) <= 4


def test_a_plan_that_is_lent_is_nobody_elses_and_what_failed_is_thrown_away():
    module = decoder("llama")
    shelf = Shelf.of(module, int8=True)
    with shelf.lent(module, 3) as one, shelf.lent(module, 3) as other:
        assert one is not other
    assert len(shelf.idle) == 2
    with pytest.raises(KeyboardInterrupt), shelf.lent(module, 3):
        raise KeyboardInterrupt
    assert len(shelf.idle) == 1 and Shelf.of(module, int8=True) is shelf and Shelf.of(module, int8=False) is not shelf


@pytest.mark.parametrize("same", [True, False], ids=["same parts", "new parts"])
def test_a_plan_that_is_lent_while_another_asks_for_the_shelf_stays_lent(monkeypatch, same):
    """A thread takes it while another looks at its parts: two that ran one plan would write into each other's texts."""
    module, lent = decoder("llama"), ExitStack()
    shelf = Shelf.of(module, int8=False)
    with shelf.lent(module, 1) as plan:
        pass

    def meanwhile(made_of, parts):
        assert lent.enter_context(shelf.lent(module, 1)) is plan
        return same

    monkeypatch.setattr(kernel_shelf, "_same", meanwhile)
    Shelf.of(module, int8=False)
    with lent, shelf.lent(module, 1) as other:
        assert other is not plan


def test_other_weights_other_parts_and_longer_texts_have_another_plan(monkeypatch):
    module = decoder("llama")
    shelf = Shelf.of(module, int8=False)

    def plan(end: int = 1) -> object:
        with shelf.lent(module, end) as one:
            return one

    plans = [plan()]
    assert plan() is plans[0]
    module.norm.weight.data = module.norm.weight.data.clone()
    plans.append(plan())
    with torch.no_grad():
        module.blocks[0].feed_norms.before.weight.add_(1.0)
    plans.append(plan())
    module.blocks[1] = decoder("llama", seed=1).blocks[1]
    Shelf.of(module, int8=False)
    plans.append(plan())
    monkeypatch.setattr(kernel_shelf, "LENGTH", 64)
    plans.append(plan(10_000))
    assert plan(9_000) is plans[-1] and len(set(map(id, plans))) == 5


def test_an_engine_looks_at_a_plan_of_its_own_once_and_at_every_other(monkeypatch):
    """It has looked at all weights before each step: a plan that it knows stays right until then."""
    module, looked = decoder("llama"), []
    engine = Engine(module, forms=KERNELS)
    engine.submit(Request(prompt=(1, 2), decoding=Decoding(max_tokens=20)))
    engine.step()
    shelf = Shelf.of(module, int8=False)
    (first,) = shelf.idle
    same = Watch.same
    monkeypatch.setattr(
        Watch, "same", lambda watch, whole=False: looked.append((watch, whole)) or same(watch, whole=whole)
    )
    engine.step()
    engine.step()
    assert looked == [(engine.runner.weights, False)] * 2
    with shelf.lent(module, 1, known=first) as plan:
        assert plan is first and len(looked) == 2
        engine.step()  # with another
        (other,) = shelf.idle
    assert other is not first
    looked.clear()
    engine.step()  # the one that was given back last
    assert looked == [(engine.runner.weights, False), (first.weights, True)]


def test_plans_go_with_their_module():
    module = decoder("gpt2")
    Continuation(module, KERNELS, **TOLD).feed([1, 2, 3])
    gone = weakref.ref(module), weakref.ref(Shelf.of(module, int8=False).idle[0])
    del module
    gc.collect()
    assert gone[0]() is None and gone[1]() is None
