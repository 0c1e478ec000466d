"""AdamW against torch.optim, on a toy and on a decoder; what decays."""

from __future__ import annotations

import pytest
import torch

from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Plain
from cutaway.nn.norms import LayerNorm
from cutaway.nn.positions import Learned
from cutaway.train.optimisers.adamw import AdamW

# float64 shows the equation; float32 what is left of it after 12 steps of roundings in another order.
PRECISIONS = [(torch.float64, 1e-12), (torch.float32, 2e-5)]


def decoder() -> torch.nn.Module:
    torch.manual_seed(1)
    mixer = GroupedQuery(heads=2, kv_heads=2, head_dim=4, bias=True, out_bias=True)
    block = Block(mixer=mixer, feed=Plain(hidden=16), before=LayerNorm())
    spec = Decoder(vocab=11, dim=8, blocks=(block, block), length=8, norm=LayerNorm(), positions=Learned(length=8))
    return spec.build().double()


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
@pytest.mark.parametrize(("dtype", "rtol"), PRECISIONS)
def test_it_steps_as_torch_does(form, dtype, rtol, toy, walk, near, split):
    ours, theirs = toy(dtype), toy(dtype)
    value = AdamW(rate=0.02, betas=(0.8, 0.95), eps=1e-6, decay=0.3, form=form)
    decayed, rest = split(theirs)
    groups = [{"params": decayed, "weight_decay": 0.3}, {"params": rest, "weight_decay": 0.0}]
    walk(ours, value.build(ours), 12)
    walk(theirs, torch.optim.AdamW(groups, lr=0.02, betas=(0.8, 0.95), eps=1e-6, foreach=False), 12)
    near(ours, theirs, rtol)


@pytest.mark.parametrize("tables", [True, False])
def test_a_decoder_learns_as_with_torch(tables, near):
    ours, theirs = decoder(), decoder()
    still = {name for name, weight in theirs.named_parameters() if weight.ndim == 1}
    if not tables:
        still |= {"embedding.weight", "positions.weight"}
    named = dict(theirs.named_parameters())
    groups = [
        {"params": [named[name] for name in named if name not in still], "weight_decay": 0.5},
        {"params": [named[name] for name in still], "weight_decay": 0.0},
    ]
    pairs = [
        (ours, AdamW(rate=0.01, decay=0.5, decay_tables=tables).build(ours)),
        (theirs, torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), foreach=False)),
    ]
    ids_N, context = torch.arange(8) % 5, Context.of((5, 3))
    for module, optimiser in pairs:
        for _ in range(5):
            optimiser.zero_grad()
            logits_NV, _ = module(ids_N, context)
            torch.nn.functional.cross_entropy(logits_NV, ids_N.roll(-1)).backward()
            optimiser.step()
    near(ours, theirs, 1e-10, atol=1e-12)  # a key's bias has no gradient but rounding: softmax does not see it


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
def test_without_gradients_worth_the_name_only_matrices_shrink(form, toy):
    module = toy(torch.float64)
    optimiser = AdamW(rate=0.1, decay=0.5, form=form).build(module)
    before = {name: weight.detach().clone() for name, weight in module.named_parameters()}
    for weight in module.parameters():
        weight.grad = torch.zeros_like(weight)
    optimiser.step()
    for name, weight in module.named_parameters():
        kept = 0.95 if name.endswith(".weight") else 1.0
        torch.testing.assert_close(weight.detach(), before[name] * kept, rtol=1e-14, atol=0)


@pytest.mark.parametrize("form", ["readable", "foreach", "fused"])
def test_a_run_goes_on_bit_for_bit_from_its_state(form, toy, resumed):
    straight, again = resumed(AdamW(form=form), lambda: toy(torch.float32))
    assert all(torch.equal(one, other) for one, other in zip(straight.parameters(), again.parameters(), strict=True))


def test_the_scale_multiplies_the_rate_and_the_decay(toy, walk, near):
    scaled, slow = toy(torch.float64), toy(torch.float64)
    optimiser = AdamW(rate=0.02, decay=0.3).build(scaled)
    optimiser.scale(0.25)
    assert optimiser.rate == 0.005
    walk(scaled, optimiser, 3)
    walk(slow, AdamW(rate=0.005, decay=0.3).build(slow), 3)
    near(scaled, slow, 1e-14)
