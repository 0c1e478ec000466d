from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from transformers import DeepseekV3Config, MixtralConfig, Qwen3MoeConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeSparseMoeBlock

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.lab.checks.experts import ROUTERS, check_experts
from cutaway.lab.checks.mixer import check_packed
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.context import Context
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated, Plain
from cutaway.ops.forms import FAST, READABLE
from cutaway.train.recompute import recompute

FORMS = pytest.mark.parametrize("forms", [FAST, READABLE], ids=["fast", "readable"])
GATED = Gated(hidden=10)
TWINS = {
    "mixtral": (
        lambda: MixtralSparseMoeBlock(
            MixtralConfig(hidden_size=8, intermediate_size=10, num_local_experts=5, num_experts_per_tok=2)
        ),
        Experts(count=5, expert=GATED, router=TopKSoftmax(top_k=2)),
    ),
    "qwen 3": (
        lambda: Qwen3MoeSparseMoeBlock(
            Qwen3MoeConfig(hidden_size=8, moe_intermediate_size=10, num_experts=6, num_experts_per_tok=3)
        ),
        Experts(count=6, expert=GATED, router=SoftmaxTopK(top_k=3)),
    ),
    "deepseek v3": (
        lambda: DeepseekV3MoE(
            DeepseekV3Config(
                hidden_size=8,
                moe_intermediate_size=10,
                n_routed_experts=8,
                n_shared_experts=2,
                num_experts_per_tok=3,
                n_group=4,
                topk_group=2,
            )
        ),
        Experts(
            count=8,
            expert=GATED,
            router=SigmoidTopK(top_k=3, groups=Groups(count=4, top_k=2, worth="best two"), scale=2.5),
            shared=Gated(hidden=20),
        ),
    ),
}


def copied(theirs, module):
    """Their weights in our places: theirs are stacked, gates above ups."""
    held = dict(theirs.state_dict())
    found = {"router.weight": held["gate.weight"]}
    if module.router.bias is not None:
        found["router.bias"] = held["gate.e_score_correction_bias"]
    for index in range(module.spec.count):
        gate, up = held["experts.gate_up_proj"][index].chunk(2)
        found |= {f"experts.{index}.gate.weight": gate, f"experts.{index}.up.weight": up}
        found[f"experts.{index}.down.weight"] = held["experts.down_proj"][index]
    for name in ("gate", "up", "down") if module.shared is not None else ():
        found[f"shared.{name}.weight"] = held[f"shared_experts.{name}_proj.weight"]
    module.load_state_dict(found)


@FORMS
@pytest.mark.parametrize("name", TWINS)
def test_equals_transformers(name, forms):
    torch.manual_seed(0)
    make, value = TWINS[name]
    theirs, module = make().eval(), value.build(8).eval()
    for weight in theirs.parameters():
        weight.data.normal_(std=0.5)
    copied(theirs, module)
    x_ND = torch.randn(19, 8)
    y_ND, report = module(x_ND, Context.of((12, 7), forms=forms))
    torch.testing.assert_close(y_ND, theirs(x_ND[None])[0], rtol=1e-4, atol=1e-5)  # float32 sums in another order
    assert report == {}


def test_against_its_oracle():
    check_experts(Experts)


@pytest.mark.parametrize(("count", "router"), ROUTERS, ids=str)
def test_the_readable_form_is_the_same(count, router):
    torch.manual_seed(0)
    module = Experts(count=count, expert=GATED, router=router, shared=GATED).build(8).double()
    x_ND, found = torch.randn(9, 8, dtype=torch.float64, requires_grad=True), []
    for forms in (FAST, READABLE):
        y_ND, _ = module(x_ND, Context.of((9,), forms=forms))
        found.append([y_ND, *torch.autograd.grad(y_ND.square().sum(), [x_ND, module.router.weight])])
    for fast, slow in zip(*found, strict=True):
        torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-15)  # float64 sums in another order


def test_packed_is_alone():
    torch.manual_seed(0)
    module = Experts(count=6, expert=GATED, router=SoftmaxTopK(top_k=2), shared=GATED).build(8)
    check_packed(module, (), [torch.randn(length, 8) for length in (7, 1, 12, 4)])


def test_parameters_grow_with_the_experts_and_arithmetic_does_not():
    few, many = (Experts(count=count, expert=GATED, router=TopKSoftmax(top_k=2)) for count in (4, 64))
    assert many.cost(8, 5, 5).parameters > 10 * few.cost(8, 5, 5).parameters
    assert many.cost(8, 5, 5).flops - few.cost(8, 5, 5).flops == 2 * 5 * 8 * 60  # the router's rows
    assert many.active(8) == 64 * 8 + 2 * 3 * 8 * 10


@FORMS
def test_meta(forms):
    value = Experts(count=4, expert=GATED, router=SigmoidTopK(top_k=2), shared=GATED)
    with torch.device("meta"):
        module = value.build(8)
    context = Context.of((3,), device="meta", forms=forms, want=frozenset({"experts"}))
    y_ND, report = module(torch.empty(3, 8, device="meta"), context)
    assert y_ND.is_meta and y_ND.shape == (3, 8) and report["share_E"].shape == (4,)


def test_a_models_report_names_the_layer_and_survives_recomputation():
    torch.manual_seed(0)
    feed = Experts(count=4, expert=GATED, router=SoftmaxTopK(top_k=2))
    block = Block(mixer=GroupedQuery(heads=2, kv_heads=1, head_dim=4), feed=feed)
    spec = Decoder(vocab=20, dim=8, blocks=(replace(block, feed=GATED), block, block), length=16)
    module, ids_N = spec.build().double().train(), torch.arange(9)

    def slopes():
        logits_NV, report = module(ids_N, Context.of((5, 4)))
        loss = logits_NV.square().sum() + sum(report[f"blocks.{layer}.feed.balance"] for layer in (1, 2))
        found = torch.autograd.grad(loss, list(module.parameters()))
        assert {name.split(".")[1] for name in report} == {"1", "2"}
        return found

    kept = slopes()
    recompute(module)
    for one, other in zip(slopes(), kept, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_values_round_trip():
    value = TWINS["deepseek v3"][1]
    table = {one.__name__: one for one in (Experts, SigmoidTopK, Groups, Gated)}
    assert from_plain(to_plain(value), table) == value


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"count": 0}, "Experts.count"),
        ({"router": TopKSoftmax(top_k=5)}, "TopKSoftmax.top_k"),
        ({"router": SoftmaxTopK(top_k=2, groups=Groups(count=3, top_k=1))}, "Groups.count"),
    ],
)
def test_impossible_mixtures_are_refused_naming_the_field(wrong, field):
    with pytest.raises(BadInput) as caught:
        Experts(**{"count": 4, "expert": Plain(hidden=4), "router": TopKSoftmax(top_k=2), **wrong})
    assert caught.value.field == field
