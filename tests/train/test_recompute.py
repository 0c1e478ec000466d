from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from cutaway.base.errors import BadInput
from cutaway.nn.context import Context
from cutaway.train.fit import fit
from cutaway.train.objectives.causal import Causal
from cutaway.train.recompute import recompute


def gradients(module, batch, **around):
    module.zero_grad()
    torch.manual_seed(7)
    loss = Causal()(module, batch)
    loss.total.backward()
    return loss.total.detach(), [weight.grad.clone() for weight in module.parameters()], torch.get_rng_state()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("every", [1, 2])
def test_losses_gradients_and_random_numbers_are_the_same(decoder, batches, dropout, every):
    (batch,) = batches(1)
    plain, again = decoder(dropout, blocks=3), recompute(decoder(dropout, blocks=3), every=every)
    one, two = gradients(plain, batch), gradients(again, batch)
    assert torch.equal(one[0], two[0]) and torch.equal(one[2], two[2])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))  # the same operations: bit by bit


def test_it_is_torchs_checkpoint(decoder, batches):
    (batch,) = batches(1)
    twin, again = decoder(0.3, blocks=3), recompute(decoder(0.3, blocks=3))
    for block in twin.blocks:
        inner = block.forward
        block.forward = lambda x_ND, context, inner=inner: checkpoint(
            inner, x_ND, replace(context, memo={}), use_reentrant=False
        )
    one, two = gradients(twin, batch), gradients(again, batch)
    assert torch.equal(one[0], two[0])
    assert all(torch.equal(a, b) for a, b in zip(one[1], two[1], strict=True))


def saved(module, batch):
    """Bytes of all tensors that are kept for the backward pass, weights apart."""
    weights = {weight.data_ptr() for weight in module.parameters()}
    held: dict[int, int] = {}

    def pack(tensor):
        if tensor.data_ptr() not in weights:
            held[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = Causal()(module, batch)
    total = sum(held.values())
    loss.total.backward()
    return total


def test_far_less_is_kept(decoder, batches):
    (batch,) = batches(1, (60, 60))
    plain, half, full = (saved(module, batch) for module in (
        decoder(blocks=6), recompute(decoder(blocks=6), every=2), recompute(decoder(blocks=6))
    ))  # fmt: skip
    # What is left of a recomputed block is nothing: its input is the sum of the block before, kept in a closure.
    assert full < plain / 8 and full < half < 0.6 * plain


def test_a_block_keeps_its_input_alone_and_forgets_what_it_made_again(decoder, batches):
    """Storage that is alive between the passes, counted from outside: blocks add one residual each."""
    import gc
    import weakref

    (batch,) = batches(1, (50,))
    module, made = recompute(decoder(blocks=3)), []
    for block in module.blocks:
        block.feed.register_forward_hook(lambda feed, given, out: made.append(weakref.ref(out[0])))
    loss = Causal()(module, batch)
    gc.collect()
    assert len(made) == 3 and all(one() is None for one in made)
    loss.total.backward()
    assert len(made) == 6
    gc.collect()
    assert all(one() is None for one in made)


def test_what_is_computed_once_for_all_blocks_is_found_as_it_was(decoder, batches):
    """Something learned that the first block computes and the others find: its gradient comes from each."""
    (batch,) = batches(1)

    class Shared(torch.nn.Module):
        def __init__(self, block, weight):
            super().__init__()
            self.block, self.weight = block, weight

        def forward(self, x_ND, context):
            bias_D = context.once("bias", lambda: (self.weight * self.weight).exp())
            return self.block(x_ND * bias_D, context)

    found = []
    for again in (False, True):
        module, weight = decoder(blocks=3), torch.nn.Parameter(torch.linspace(0, 1, 32))
        for place, block in enumerate(module.blocks):
            module.blocks[place] = Shared(block, weight)
        found.append(gradients(recompute(module) if again else module, batch)[1])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_names_of_weights_modes_and_devices_stay(decoder, batches):
    plain, again = decoder(0.3), recompute(decoder(0.3))
    assert list(plain.state_dict()) == list(again.state_dict())
    assert [name for name, _ in plain.named_parameters()] == [name for name, _ in again.named_parameters()]
    again.load_state_dict(plain.state_dict())
    (batch,) = batches(1)
    context = Context.of(batch.lengths)
    with torch.no_grad():
        assert torch.equal(again.eval()(batch.ids_N, context)[0], plain.eval()(batch.ids_N, context)[0])
    assert again.double().blocks[0].mixer.query.weight.dtype == torch.float64
    assert again.blocks[0].spec == plain.blocks[0].spec
    assert recompute(again) is again  # once is enough
    assert copy.deepcopy(again).blocks[0].mixer is not again.blocks[0].mixer


def test_under_autocast_it_computes_the_same_again(decoder, batches):
    (batch,) = batches(1)
    found = []
    for module in (decoder(blocks=3), recompute(decoder(blocks=3))):
        with torch.autocast("cpu", torch.bfloat16):
            loss = Causal()(module, batch)
        loss.total.backward()
        found.append([weight.grad for weight in module.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_a_second_backward_pass_makes_it_a_third_time(decoder, batches):
    (batch,) = batches(1)
    module = recompute(decoder())
    x_ND, _ = module.hidden(batch.ids_N, Context.of(batch.lengths))
    one, two = (torch.autograd.grad(x_ND.sum(), list(module.blocks.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_it_trains(decoder, batches):
    given, losses = batches(5), []
    for module in (decoder(0.1), recompute(decoder(0.1))):
        torch.manual_seed(3)
        optimiser = torch.optim.AdamW(module.parameters(), 5e-3)
        losses.append([step.loss for step in fit(module, Causal(), given, optimiser, steps=5)])
    assert losses[0] == losses[1]


def test_a_block_that_depends_on_something_else_is_found(decoder, batches):
    (batch,) = batches(1)
    module, calls = decoder(), []
    feed = module.blocks[0].feed
    inner = feed.forward

    def changing(x_ND, context):
        calls.append(1)
        y_ND, report = inner(x_ND, context)
        return (y_ND if len(calls) == 1 else y_ND.exp().log()), report

    feed.forward = changing
    with pytest.raises(RuntimeError, match="run again"):
        Causal()(recompute(module), batch).total.backward()


def test_a_module_without_blocks_is_refused(decoder):
    with pytest.raises(BadInput, match="blocks"):
        recompute(torch.nn.Linear(2, 2))
    with pytest.raises(BadInput, match="every"):
        recompute(decoder(), every=0)
