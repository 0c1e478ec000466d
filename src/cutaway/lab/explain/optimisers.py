"""Optimisers and schedules explained.   Read next: train/optimisers/descent.py"""

from __future__ import annotations

from typing import Any

from cutaway.lab.explain.explanation import Explanation, Formula

_HIDDEN = "4·P + 4·(V·D + (2·L + 1)·D)"


def _kept(value: Any) -> int:
    """Bytes that an optimiser keeps for smollm2-135m, counted on the device without memory."""
    import torch

    from cutaway.lab.explain.example import SMOLLM2

    with torch.device("meta"):
        module = SMOLLM2.build()
    state = value.build(module).state_dict().values()
    return sum(held.nbytes for held in state if isinstance(held, torch.Tensor))


def _state(symbols: str, result: int) -> tuple[Formula, ...]:
    return (Formula(what="kept between steps", symbols=symbols, result=result, unit="bytes"),)


def _sgd() -> tuple[Formula, ...]:
    from cutaway.train.optimisers.sgd import SGD

    return _state("4·P", _kept(SGD()))


def _adamw() -> tuple[Formula, ...]:
    from cutaway.train.optimisers.adamw import AdamW

    return _state("2·4·P", _kept(AdamW()))


def _lion() -> tuple[Formula, ...]:
    from cutaway.train.optimisers.lion import Lion

    return _state("4·P", _kept(Lion()))


def _adafactor() -> tuple[Formula, ...]:
    from cutaway.train.optimisers.adafactor import Adafactor

    rows = "V + D + L·(2·(H·K + D) + 2·(G·K + D) + 3·(D + F)) + (2·L + 1)·D"
    return _state(f"4·({rows})", _kept(Adafactor()))


def _muon() -> tuple[Formula, ...]:
    from cutaway.train.optimisers.muon import Muon

    return _state(_HIDDEN, _kept(Muon()))


def _schedule() -> tuple[Formula, ...]:
    from cutaway.train.schedules import Linear

    thousandths = round(1000 * Linear(steps=1000, warmup=100)(50))
    later = round(1000 * Linear(steps=1000, warmup=100)(550))
    return (
        Formula(
            what="thousandths of the rate at step 50 of 1,000, warm-up 100", symbols="1000·50//100", result=thousandths
        ),
        Formula(what="at step 550, linear", symbols="1000·(1000 - 550)//(1000 - 100)", result=later),
    )


SGD = Explanation(
    name="sgd",
    title="Gradient descent with momentum (SGD)",
    what=(
        "The gradient says in which direction the loss grows; gradient descent takes a small step the other way. The "
        "gradient of a batch is noisy, so momentum keeps a running sum of past ones: what points the same way adds up, "
        "noise cancels. One rate serves all weights, which suits images and not Transformers: rare words have small "
        "gradients and hardly move. It is the baseline that the others improve on."
    ),
    equation="v = momentum · v + g;    w = w - rate · v",
    papers=(
        "Robbins and Monro 1951, A Stochastic Approximation Method",
        "Sutskever et al. 2013, On the importance of initialization and momentum",
    ),
    files=("train/optimisers/sgd.py",),
    cost=_sgd,
    read_next=("adamw", "schedules"),
    aliases=("momentum", "gradient-descent", "nesterov"),
)

ADAMW = Explanation(
    name="adamw",
    title="Adam and AdamW",
    what=(
        "Adam keeps two running means for every weight: of its gradient, and of the gradient's square. The step is the "
        "one divided by the root of the other, so that each weight moves by about the rate whatever the size of its "
        "gradient. Both means start at zero and would be too small at first; two divisors undo that. AdamW lets "
        "weights shrink a little beside the step instead of adding the decay to the gradient, where it would be "
        "divided away. Nearly all language models were trained with it."
    ),
    equation=(
        "m = b₁ m + (1 - b₁) g;    v = b₂ v + (1 - b₂) g²\n"
        "w = (1 - rate · decay) w - rate · (m / (1 - b₁ᵗ)) / (√(v / (1 - b₂ᵗ)) + eps)"
    ),
    papers=(
        "Kingma and Ba 2014, Adam, arXiv 1412.6980",
        "Loshchilov and Hutter 2017, Decoupled Weight Decay, arXiv 1711.05101",
    ),
    files=("train/optimisers/adamw.py", "train/optimisers/adam.py"),
    cost=_adamw,
    read_next=("schedules", "muon", "lion"),
    aliases=("adam", "optimiser", "optimizer", "weight-decay"),
)

LION = Explanation(
    name="lion",
    title="Lion",
    what=(
        "Lion moves every weight by the same step, up or down; only the sign of a mean of gradients is asked. The rule "
        "was found by a search over programs, not thought up. It keeps one mean where Adam keeps two, half the memory. "
        "Since every step has full length, its rate is three to ten times smaller than AdamW's, and its decay as much "
        "larger."
    ),
    equation="w = w - rate · (sign(b₁ m + (1 - b₁) g) + decay · w);    then m = b₂ m + (1 - b₂) g",
    papers=("Chen et al. 2023, Symbolic Discovery of Optimization Algorithms, arXiv 2302.06675, algorithm 2",),
    files=("train/optimisers/lion.py",),
    cost=_lion,
    read_next=("adamw", "adafactor"),
)

ADAFACTOR = Explanation(
    name="adafactor",
    title="Adafactor",
    what=(
        "Adam's mean of squares is as large as the model. Adafactor keeps of a matrix only the mean of each row and of "
        "each column, and takes their product for the whole: a few numbers instead of millions. There is no mean of "
        "gradients; a step that would be too long is cut by its own size instead, and its length goes by the size of "
        "the weights. T5 was trained with it."
    ),
    equation=(
        "r, c = running means of g² by row and by column;    v = r cᵀ / mean(r);    u = g / √v\n"
        "w = w - max(eps, rms(w)) · rate · u / max(1, rms(u))"
    ),
    papers=("Shazeer and Stern 2018, Adafactor, arXiv 1804.04235",),
    files=("train/optimisers/adafactor.py",),
    cost=_adafactor,
    read_next=("adamw", "lion"),
)

MUON = Explanation(
    name="muon",
    title="Muon",
    what=(
        "A weight matrix is more than a list of numbers: it stretches some directions and not others. The momentum of "
        "a hidden matrix is mostly a few strong directions; Muon makes all of them equally strong before it takes the "
        "step, so that what is rare is learned as fast as what is common. Five rounds of a polynomial do that with "
        "products of matrices alone, without a singular value decomposition. Tables, the head, norms and biases are "
        "no such matrices and go by AdamW."
    ),
    equation=(
        "u = U S Vᵀ  →  U Vᵀ,  by five rounds of  X = a X + (b X Xᵀ + c (X Xᵀ)²) X\n"
        "(a, b, c) = (3.4445, -4.7750, 2.0315)\nw = w - rate · √max(1, rows / columns) · X"
    ),
    papers=(
        "Jordan et al. 2024, Muon: an optimizer for hidden layers in neural networks",
        "Liu et al. 2025, Muon is scalable for LLM training, arXiv 2502.16982",
    ),
    files=("train/optimisers/muon.py", "train/optimisers/sorting.py"),
    cost=_muon,
    read_next=("adamw", "schedules"),
    aliases=("newton-schulz", "orthogonalised-momentum"),
)

SCHEDULES = Explanation(
    name="schedules",
    title="Learning rates and schedules",
    what=(
        "The rate is how far a step goes, the one number that most decides whether a run succeeds. A schedule changes "
        "it over the run. All begin with a warm-up, since the first gradients are large and the optimiser's means know "
        "nothing yet. Then the rate falls: as a cosine, in a straight line, with the root of the step, or not at all "
        "until a short last stretch (warm-up, stable, decay), which lets a run be prolonged. Most of what the fall "
        "gives comes at its end, when small steps let the noise settle."
    ),
    equation=(
        "warm-up:  t / w              linear:       1 - (1 - floor) p\n"
        "cosine:   floor + (1 - floor)(1 + cos πp) / 2;    p from 0 to 1 behind the warm-up\n"
        "inverse square root:  √(w / t)"
    ),
    papers=(
        "Goyal et al. 2017 (warm-up), arXiv 1706.02677",
        "Loshchilov and Hutter 2016 (cosine), arXiv 1608.03983",
        "Hu et al. 2024, MiniCPM (warm-up, stable, decay), arXiv 2404.06395",
    ),
    files=("train/schedules.py",),
    cost=_schedule,
    read_next=("adamw", "block"),
    aliases=("schedule", "warmup", "warm-up", "cosine", "learning-rate", "wsd", "rate"),
)

OPTIMISERS = (SGD, ADAMW, MUON, LION, ADAFACTOR, SCHEDULES)
