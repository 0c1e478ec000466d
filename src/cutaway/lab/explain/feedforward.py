"""Feed-forwards and activations explained.   Read next: nn/feedforward.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _plain() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import FEED, SMOLLM2
    from cutaway.nn.feedforward import Plain

    cost = Plain(hidden=FEED.hidden, bias=False).cost(SMOLLM2.dim, 1, 1)
    return (
        Formula(what="parameters, if smollm2 had it (no bias)", symbols="2·D·F", result=cost.parameters),
        Formula(what="FLOPs per token", symbols="4·D·F", result=cost.flops),
    )


def _gated() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import FEED, SMOLLM2

    cost = FEED.cost(SMOLLM2.dim, 1, 1)
    return (
        Formula(what="parameters of one block's", symbols="3·D·F", result=cost.parameters),
        Formula(what="parameters of all", symbols="3·D·F·L", result=cost.parameters * len(SMOLLM2.blocks)),
        Formula(what="FLOPs per token, one block's", symbols="6·D·F", result=cost.flops),
    )


def _activations() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    hidden = [block.feed.hidden for block in SMOLLM2.blocks]  # type: ignore[attr-defined]
    return (
        Formula(what="parameters", symbols="0", result=0),
        Formula(what="numbers bent per token", symbols="L·F", result=sum(hidden)),
    )


PLAIN = Explanation(
    name="plain",
    title="Plain feed-forward",
    what=(
        "After attention has mixed tokens, the feed-forward works on each token alone. It widens the vector, usually "
        "four times, bends every number with an activation, and brings the result back to the model's width. Without "
        "the bend the two matrices would be no more than one. GPT-1 and GPT-2 use this form; most later models use "
        "the gated one. About two thirds of a block's parameters are here, and much of what a model knows of the "
        "world is held to be stored in them."
    ),
    equation="y = W_down · activation(W_up · x + b) + b′",
    papers=("Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762, section 3.3",),
    files=("nn/feedforward.py",),
    cost=_plain,
    read_next=("gated", "activations"),
    aliases=("feedforward", "feed", "ffn", "mlp"),
)

GATED = Explanation(
    name="gated",
    title="Gated feed-forward (SwiGLU, GeGLU)",
    what=(
        "A gated feed-forward widens the vector twice. One copy is bent by an activation and becomes a gate: it says "
        "how much of each number of the other copy passes. The product is brought back to the model's width. With "
        "SiLU as the bend it is called SwiGLU (Llama, Qwen, SmolLM2), with GELU it is GeGLU (Gemma), with the sigmoid "
        "GLU. It has three matrices instead of two, so it is made two thirds as wide, and is then a little better at "
        "the same cost."
    ),
    equation="y = W_down · (activation(W_gate · x) ⊙ (W_up · x))",
    papers=(
        "Shazeer 2020, GLU Variants Improve Transformer, arXiv 2002.05202",
        "Dauphin et al. 2016, Gated Convolutional Networks (GLU), arXiv 1612.08083",
    ),
    files=("nn/feedforward.py", "ops/activation.py"),
    cost=_gated,
    read_next=("plain", "activations"),
    aliases=("swiglu", "geglu", "glu"),
)

ACTIVATIONS = Explanation(
    name="activations",
    title="Activations",
    what=(
        "An activation bends each number by itself; it is what makes a stack of matrices more than a single matrix. "
        "ReLU sets negative numbers to zero. GELU and SiLU are smooth: they let small negative numbers through a "
        "little, so that there is a gradient to learn from. Sigmoid and tanh squeeze any number into a fixed range and "
        "serve as gates. GELU has an exact form and one with tanh; they differ by less than 0.001, yet a checkpoint "
        "must be run with the form that it was trained with to give the same logits."
    ),
    equation=(
        "ReLU(x) = max(x, 0)     SiLU(x) = x / (1 + e^-x)     GELU(x) = x · Φ(x)\n"
        "GELU with tanh: x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³)))"
    ),
    papers=(
        "Hendrycks and Gimpel 2016, GELU, arXiv 1606.08415",
        "Ramachandran, Zoph and Le 2017, Swish, arXiv 1710.05941",
    ),
    files=("ops/activation.py",),
    cost=_activations,
    read_next=("gated", "plain"),
    aliases=("activation", "relu", "gelu", "silu", "swish", "sigmoid", "tanh"),
)

FEEDS = (PLAIN, GATED, ACTIVATIONS)
