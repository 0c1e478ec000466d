"""Statistics of what a model starts with. Deviations of n normal draws scatter by 1 / sqrt(2 n) of themselves: 0.5% for
the 20,000 numbers and more that are looked at here, so 3% is six deviations of that."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from cutaway.base.errors import BadInput
from cutaway.base.seeds import seed_all
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.initialisation import (
    DepthScaled,
    Initialisation,
    Normal,
    ScaledResidual,
    Small,
    SmallWang,
    TruncatedNormal,
    Xavier,
    residual_projections,
)
from cutaway.nn.linear import Linear
from cutaway.nn.norms import LayerNorm, RMSNorm

DIM, HIDDEN, LAYERS, VOCAB = 128, 192, 8, 300
EVERY: tuple[Initialisation, ...] = (
    Normal(),
    ScaledResidual(),
    TruncatedNormal(),
    Small(),
    SmallWang(),
    Xavier(),
    DepthScaled(),
)


class Model(nn.Module):
    """A stack of blocks and a token table: what an initialisation looks at, without the floor above."""

    class Spec:
        dim = DIM

    def __init__(self, *blocks: Block):
        super().__init__()
        self.spec = self.Spec()
        self.table = nn.Module()
        self.table.weight = nn.Parameter(torch.empty(VOCAB, DIM))
        self.blocks = nn.ModuleList(block.build(DIM) for block in blocks)
        self.head = Linear(DIM, VOCAB, bias=True)


def model() -> Model:
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=32, bias=True, out_bias=True)
    plain = Block(mixer=mixer, feed=Plain(hidden=HIDDEN), before=LayerNorm())
    gated = Block(mixer=mixer, feed=Gated(hidden=HIDDEN), before=RMSNorm(offset=1.0))
    made = Model(*(plain, gated) * (LAYERS // 2))
    for parameter in made.parameters():
        if parameter.ndim >= 2:
            nn.init.constant_(parameter, math.nan)  # whatever is not drawn will show
        else:
            parameter.data += 0.5
    return made


def drawn(initialisation: Initialisation) -> Model:
    seed_all(1)
    made = model()
    initialisation.apply(made)
    return made


def out(made: Model) -> list[Tensor]:
    """The residual projections, named one by one."""
    return [
        made.get_parameter(f"blocks.{layer}.{path}.weight")
        for layer in range(LAYERS)
        for path in ("mixer.out", "feed.down")
    ]


def inner(made: Model) -> list[Tensor]:
    """Every other map inside the blocks."""
    last = {id(matrix) for matrix in out(made)}
    return [one for one in made.blocks.parameters() if one.ndim == 2 and id(one) not in last]


def deviation(matrices: list[Tensor]) -> float:
    return float(torch.cat([matrix.detach().flatten() for matrix in matrices]).std())


@pytest.mark.parametrize("initialisation", EVERY, ids=lambda one: type(one).__name__)
def test_everything_is_drawn_around_zero_biases_are_zero_and_norms_are_left(initialisation):
    made, fresh = drawn(initialisation), model()
    for name, parameter in made.named_parameters():
        numbers = parameter.detach()
        assert bool(numbers.isfinite().all()), name
        if numbers.ndim >= 2:
            # The mean of n numbers scatters by deviation / sqrt(n); five of those.
            assert abs(float(numbers.mean())) < 5 * float(numbers.std()) / numbers.numel() ** 0.5, name
            assert float(numbers.std()) > 0
        elif name.endswith("bias"):
            assert not bool(numbers.any()), name
        else:
            assert torch.equal(numbers, fresh.get_parameter(name)), name


@pytest.mark.parametrize("initialisation", EVERY, ids=lambda one: type(one).__name__)
def test_a_seed_repeats(initialisation):
    first, second = drawn(initialisation), drawn(initialisation)
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    initialisation.apply(second)
    assert not torch.equal(first.head.weight, second.head.weight)


def near(got: float, expected: float) -> bool:
    return abs(got / expected - 1) < 0.03


@pytest.mark.parametrize(
    ("initialisation", "inside", "projections", "tables"),
    [
        (Normal(), 0.02, 0.02, 0.02),
        (Normal(deviation=0.3), 0.3, 0.3, 0.3),
        (ScaledResidual(), 0.02, 0.02 / math.sqrt(2 * LAYERS), 0.02),
        (Small(), math.sqrt(2 / (5 * DIM)), math.sqrt(2 / (5 * DIM)), math.sqrt(2 / (5 * DIM))),
        (SmallWang(), math.sqrt(2 / (5 * DIM)), 2 / (LAYERS * math.sqrt(DIM)), math.sqrt(2 / (5 * DIM))),
        # The spread of a normal cut at two deviations is sqrt(1 - 4 f(2) / (2 F(2) - 1)) of what it was.
        (TruncatedNormal(), 0.02 * 0.8796, 0.02 * 0.8796, 0.02 * 0.8796),
    ],
    ids=["normal", "wider", "gpt2", "small", "neox", "bert"],
)
def test_deviations_are_those_of_the_papers(initialisation, inside, projections, tables):
    made = drawn(initialisation)
    assert near(deviation(inner(made)), inside)
    assert near(deviation(out(made)), projections)
    assert near(deviation([made.table.weight]), tables)


def test_what_is_truncated_has_no_tails():
    made = drawn(TruncatedNormal())
    most = max(float(matrix.detach().abs().max()) for matrix in made.parameters() if matrix.ndim == 2)
    assert 0.0395 < most <= 0.04
    assert max(float(matrix.detach().abs().max()) for matrix in drawn(Normal()).parameters() if matrix.ndim == 2) > 0.06


def uniform(matrix: Tensor, scale: float = 1.0) -> bool:
    """Whether numbers fill +-scale * sqrt(6 / (inputs + outputs)) evenly."""
    bound = scale * math.sqrt(6 / sum(matrix.shape))
    numbers = matrix.detach()
    # A uniform spread is bound / sqrt(3); the largest of thousands lies within 1% of the bound.
    return near(float(numbers.std()), bound / math.sqrt(3)) and 0.99 * bound < float(numbers.abs().max()) <= bound


def test_xavier_fills_its_bounds_and_tables_are_normal():
    made = drawn(Xavier())
    assert all(uniform(matrix) for matrix in [*inner(made), *out(made), made.head.weight])
    assert near(deviation([made.table.weight]), DIM**-0.5)


def test_depth_scaled_shrinks_with_the_root_of_the_layer():
    made = drawn(DepthScaled(alpha=0.5))
    for layer, block in enumerate(made.blocks, start=1):
        for name, matrix in block.named_parameters():
            assert matrix.ndim != 2 or uniform(matrix, 0.5 / math.sqrt(layer)), (layer, name)
    assert uniform(made.head.weight)


def test_scaled_projections_keep_the_residual_from_growing():
    """The sum of what 2 L projections add has one projection's spread, at any depth."""
    made = drawn(ScaledResidual())
    together = sum(float(matrix.detach().var()) for matrix in out(made))
    assert near(together**0.5, 0.02)


def test_residual_projections_are_found_by_their_place():
    made = model()
    assert [[id(one.weight) for one in stack] for stack in residual_projections(made)] == [list(map(id, out(made)))]


def test_each_stack_counts_its_own():
    """An encoder-decoder has two residuals; a block that looks across adds three times."""
    mixer = GroupedQuery(heads=4, kv_heads=4, head_dim=32)
    reads = Block(mixer=mixer, feed=Plain(hidden=HIDDEN), before=LayerNorm())
    looks = Block(
        mixer=mixer, cross=Cross(heads=4, kv_heads=4, head_dim=32), feed=Plain(hidden=HIDDEN), before=LayerNorm()
    )
    both = nn.ModuleDict({"encoder": Model(*(reads,) * 2), "decoder": Model(*(looks,) * 3)})
    ScaledResidual().apply(both)
    stacks = residual_projections(both)
    assert [len(stack) for stack in stacks] == [2 * 2, 3 * 3]
    for stack, expected in zip(stacks, (0.02 / math.sqrt(4), 0.02 / math.sqrt(9)), strict=True):
        assert near(deviation([one.weight for one in stack]), expected)


def test_a_part_without_one_is_refused_not_passed_over():
    made = model()
    made.blocks[3].feed = nn.Identity()
    with pytest.raises(BadInput, match=r"feed\.down: Identity has no linear map `down`"):
        ScaledResidual().apply(made)


@pytest.mark.parametrize("initialisation", [Small(), SmallWang()])
def test_a_part_of_a_model_has_no_dim(initialisation):
    with pytest.raises(BadInput, match="only a whole model"):
        initialisation.apply(Plain(hidden=4).build(4))


@pytest.mark.parametrize(
    ("make", "field"),
    [
        (lambda: Normal(deviation=0.0), r"Normal\.deviation"),
        (lambda: ScaledResidual(deviation=math.inf), r"ScaledResidual\.deviation"),
        (lambda: TruncatedNormal(deviation=-1.0), r"TruncatedNormal\.deviation"),
        (lambda: DepthScaled(alpha=1.5), r"DepthScaled\.alpha"),
    ],
)
def test_an_impossible_value_is_refused(make: Callable[[], object], field: str):
    with pytest.raises(BadInput, match=field):
        make()


def test_every_expert_of_a_mixture_adds_to_the_residual_and_counts_as_one():
    mixer = GroupedQuery(heads=4, kv_heads=2, head_dim=32)
    feed = Experts(
        count=4, expert=Gated(hidden=HIDDEN), router=SigmoidTopK(top_k=2), shared=Plain(hidden=HIDDEN, bias=False)
    )
    made = Model(*(Block(mixer=mixer, feed=feed),) * 2)
    made.blocks[0].feed.router.bias.data += 1.0
    ScaledResidual().apply(made)
    assert len(residual_projections(made)[0]) == 2 * (1 + 4 + 1)
    first = made.blocks[0].feed
    for matrix, deviation in (
        (first.experts[3].down.weight, 0.02 / math.sqrt(4)),
        (first.shared.down.weight, 0.02 / math.sqrt(4)),
        (first.experts[0].gate.weight, 0.02),
        (first.router.weight, 0.02),
    ):
        # 512 draws or more: three deviations of the spread's own.
        assert float(matrix.detach().std()) == pytest.approx(deviation, rel=0.1)
    assert not first.router.bias.any()
