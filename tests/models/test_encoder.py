"""Laws of the encoder. Its twins are in tests/weights/architectures/test_bert.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.base.errors import BadInput
from cutaway.base.values import from_plain, to_plain
from cutaway.models.classifier import SequenceClassifier, TokenClassifier
from cutaway.models.encoder import Encoder
from cutaway.models.masked_head import MaskedHead
from cutaway.models.pooler import Pooler
from cutaway.nn.attention.block_sparse import BlockSparse
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.attention.native_sparse import NativeSparse
from cutaway.nn.block import Block
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope
from cutaway.ops.forms import FAST, READABLE

from .encoders import MODERN, NORM, VALUES, bert, random

LENGTHS = (9, 1, 4, 4)
TOKENS = sum(LENGTHS)
EACH = pytest.mark.parametrize("spec", VALUES.values(), ids=VALUES.keys())


def context(lengths: tuple[int, ...] = LENGTHS, **told) -> Context:
    return Context.of(lengths, causal=False, **told)


@EACH
@torch.no_grad()
def test_packed_equals_alone_in_both_forms(spec):
    module, ids_N = random(spec), torch.randint(50, (TOKENS,))
    for forms in (FAST, READABLE):
        packed, _ = module(ids_N, context(forms=forms))
        alone = [module(ids, context((len(ids),)))[0] for ids in ids_N.split(LENGTHS)]
        assert torch.allclose(packed, torch.cat(alone), atol=1e-10)
        assert packed.shape[0] == (len(LENGTHS) if isinstance(spec.head, SequenceClassifier) else TOKENS)


@torch.no_grad()
def test_every_token_sees_both_ways_and_no_other_sequence():
    module, ids_N = random(VALUES["trunk"]), torch.randint(50, (9,))
    for place in range(9):
        other = ids_N.clone()
        other[place] = (other[place] + 1) % 50
        moved = (module(ids_N, context((5, 4)))[0] - module(other, context((5, 4)))[0]).abs().amax(-1) > 1e-9
        assert moved.tolist() == [(token < 5) == (place < 5) for token in range(9)]


@torch.no_grad()
def test_the_pooler_reads_the_first_token_of_each_sequence():
    module, ids_N = random(VALUES["pooled"]), torch.randint(50, (TOKENS,))
    x_ND, _ = module(ids_N, context())
    assert module.pooler is not None
    first = x_ND[[0, 9, 10, 14]]
    expected = torch.tanh(first @ module.pooler.dense.weight.T + module.pooler.dense.bias)
    assert torch.allclose(module.pooled(x_ND, context()), expected, atol=1e-12)
    with pytest.raises(BadInput, match="without tokens"):
        module.pooled(x_ND, context((TOKENS, 0)))


@torch.no_grad()
def test_token_types_are_the_first_where_nobody_says():
    module, ids_N = random(VALUES["trunk"]), torch.randint(50, (TOKENS,))
    silent, zeros = (module(ids_N, context(), kinds_N=kinds)[0] for kinds in (None, torch.zeros_like(ids_N)))
    ones, _ = module(ids_N, context(), kinds_N=torch.ones_like(ids_N))
    assert torch.allclose(silent, zeros, atol=1e-12) and not torch.allclose(silent, ones)


@EACH
def test_it_costs_what_it_says(spec):
    cost = spec.cost(1, 20)
    assert cost.parameters == sum(parameter.numel() for parameter in spec.build().parameters())
    assert cost.cache_bytes == 0 and all(not streams for streams in spec.streams())


@pytest.mark.parametrize(("name", "tokens", "length"), [("masked", 20, 20), ("sequences", 40, 20), ("tokens", 7, 7)])
def test_its_flops_are_those_of_the_products_that_run(name, tokens, length):
    from torch.utils.flop_counter import FlopCounterMode

    spec, sequences = VALUES[name], tokens // length
    module = spec.build()
    with FlopCounterMode(display=False) as counter:
        # The readable form is plain products, which the counter sees on any machine.
        module(torch.zeros(tokens, dtype=torch.long), context((length,) * sequences, forms=READABLE))
    assert spec.cost(tokens, length).flops == counter.get_total_flops()


def test_bert_base_has_its_parameters():
    """109,482,240: with the pooler, without a masked-language head; on the meta device and by the value alone."""
    base = bert(30522, 768, 12, 12, 3072, 512, pooler=Pooler())
    assert base.cost(1, 1).parameters == 109_482_240
    with torch.device("meta"):
        module = base.build()
    assert sum(parameter.numel() for parameter in module.parameters()) == 109_482_240


@EACH
def test_it_runs_on_the_meta_device(spec):
    module = spec.build().to("meta")
    ids_N = torch.zeros(TOKENS, dtype=torch.long, device="meta")
    for forms in (FAST, READABLE):
        said, _ = module(ids_N, context(device="meta", forms=forms))
        assert said.device.type == "meta"


@EACH
def test_gradients_reach_every_parameter_and_forms_agree(spec):
    module, ids_N = random(spec), torch.randint(50, (TOKENS,))
    # A pooler without a head on top is read by `pooled`.
    read = [(name, one) for name, one in module.named_parameters() if "pooler" not in name or spec.head is not None]
    gradients = []
    for forms in (FAST, READABLE):
        said, _ = module(ids_N, context(forms=forms), kinds_N=(torch.arange(TOKENS) % 2) if spec.kinds else None)
        gradients.append(torch.autograd.grad(said.pow(3).mean(), [one for _, one in read]))
    for (name, _), fast, slow in zip(read, *gradients, strict=True):
        assert torch.allclose(fast, slow, atol=1e-9, rtol=1e-7), name
        if not name.endswith("key.bias"):  # one number added to all scores of a query changes no weight
            assert bool(fast.any()), name


def test_the_residual_behind_each_block_is_reported_where_wanted():
    module, ids_N = random(VALUES["masked"]), torch.randint(50, (TOKENS,))
    said, report = module(ids_N, context(want=frozenset({"residual"})))
    assert set(report) == {"blocks.0.residual_ND", "blocks.1.residual_ND"}
    assert torch.allclose(module.logits(report["blocks.1.residual_ND"], context()), said)


def test_dropout_acts_in_training_alone():
    module, ids_N = random(replace(VALUES["trunk"], dropout=0.5)), torch.randint(50, (TOKENS,))
    assert torch.equal(module(ids_N, context())[0], module(ids_N, context())[0])
    module.train()
    assert not torch.equal(module(ids_N, context())[0], module(ids_N, context())[0])


@EACH
def test_a_value_round_trips_through_json(spec):
    kinds = (Encoder, Block, GroupedQuery, Plain, Gated, LayerNorm, RMSNorm, Learned, Rope)
    kinds += (Pooler, MaskedHead, SequenceClassifier, TokenClassifier)
    assert from_plain(to_plain(spec), {kind.__name__: kind for kind in kinds}) == spec


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"causal": True}, "sees both ways"),
        ({"cache": True}, "keeps nothing"),
        ({"lengths": (33,)}, "33 tokens, the encoder's most is 32"),
    ],
)
def test_a_pass_that_cannot_be_is_refused(told, message):
    module = random(VALUES["trunk"])
    lengths = told.pop("lengths", (3,))
    if told.pop("cache", False):
        told["cache"] = ContiguousCache(module.spec.streams())
    with pytest.raises(BadInput, match=message):
        module(torch.zeros(sum(lengths), dtype=torch.long), Context.of(lengths, **{"causal": False, **told}))


def test_rows_and_kinds_that_cannot_be_are_refused():
    ids_N = torch.zeros(4, dtype=torch.long)
    with pytest.raises(BadInput, match="sequences, not for rows"):
        random(VALUES["sequences"])(ids_N, context((4,)), torch.tensor([0]))
    with pytest.raises(BadInput, match="no token types"):
        random(VALUES["pre-norm"])(ids_N, context((4,)), kinds_N=ids_N)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"vocab": 0}, "vocab"),
        ({"kinds": -1}, "kinds"),
        ({"blocks": ()}, "blocks"),
        ({"dropout": 1.0}, "dropout"),
        ({"head": SequenceClassifier(classes=2)}, "head"),
        ({"head": MaskedHead(norm=NORM), "pooler": Pooler()}, "pooler"),
        ({"head": TokenClassifier(classes=2), "pooler": Pooler()}, "pooler"),
    ],
)
def test_an_impossible_value_is_refused(wrong, field):
    with pytest.raises(BadInput, match=rf"Encoder\.{field}"):
        replace(VALUES["trunk"], **wrong)


def test_what_does_not_fit_into_an_encoder_is_refused():
    """Windows and positions beyond its length, a look across, sinks that stand before every token."""
    block, mixer = MODERN, MODERN.mixer
    replace(VALUES["trunk"], blocks=(replace(block, mixer=replace(mixer, window=32)),))
    wrong = {
        r"GroupedQuery\.window": replace(block, mixer=replace(mixer, window=33)),
        r"GroupedQuery\.sinks": replace(block, mixer=replace(mixer, window=4, sinks=1)),
        r"Block\.cross": replace(block, cross=Cross(heads=2, kv_heads=1, head_dim=4)),
        "NativeSparse": replace(block, mixer=NativeSparse(heads=2, kv_heads=1, head_dim=8)),
        "BlockSparse": replace(block, mixer=BlockSparse(heads=2, kv_heads=1, head_dim=8, block=32, seen=((0,),))),
    }
    for field, refused in wrong.items():
        with pytest.raises(BadInput, match=field):
            replace(VALUES["trunk"], blocks=(refused,))
    with pytest.raises(BadInput, match=r"Learned\.length"):
        replace(VALUES["trunk"], positions=Learned(length=31))
