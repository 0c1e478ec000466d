"""How the parts are put together, explained.   Read next: models/decoder.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _block() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import BLOCK, SMOLLM2

    cost = BLOCK.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    return (
        Formula(what="parameters of one", symbols="2·D·H·K + 2·D·G·K + 3·D·F + 2·D", result=cost.parameters),
        Formula(what="FLOPs per token at S", symbols="4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K·S", result=cost.flops),
    )


def _decoder() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    cost = SMOLLM2.cost(1, SMOLLM2.length)
    return (
        Formula(what="parameters", symbols="V·D + L·(2·D·H·K + 2·D·G·K + 3·D·F + 2·D) + D", result=cost.parameters),
        Formula(
            what="FLOPs per token at S",
            symbols="2·V·D + L·(4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K·S)",
            result=cost.flops,
        ),
        Formula(what="cache at S", symbols="2·G·K·4·L·S", result=cost.cache_bytes, unit="bytes"),
    )


def _dropout() -> tuple[Formula, ...]:
    return (Formula(what="parameters", symbols="0", result=0),)


def _forms() -> tuple[Formula, ...]:
    return (Formula(what="parameters", symbols="0", result=0),)


BLOCK = Explanation(
    name="block",
    title="Block",
    what=(
        "A block has two parts: a mixer, which lets tokens take from each other, and a feed-forward, which works on "
        "each token alone. Each reads the residual, the one vector that a token carries through the model, and adds "
        "its result to it. Since blocks only ever add, the signal and the gradient have a straight way through all of "
        "them. Where the norms stand tells families apart: before each part (GPT-2, Llama), after the sum (GPT-1), or "
        "on both sides of each part (Gemma)."
    ),
    equation="pre-norm:   x + part(norm(x))\npost-norm:  norm(x + part(x))\nsandwich:   x + norm(part(norm(x)))",
    papers=(
        "Vaswani et al. 2017, arXiv 1706.03762, section 3.1",
        "Xiong et al. 2020, On Layer Normalization, arXiv 2002.04745",
        "He et al. 2015, Deep Residual Learning, arXiv 1512.03385",
    ),
    files=("nn/block.py",),
    cost=_block,
    read_next=("grouped-query", "gated", "decoder"),
    aliases=("residual", "layer", "transformer"),
)

DECODER = Explanation(
    name="decoder",
    title="Decoder",
    what=(
        "A decoder is a language model that writes: a token table, a stack of blocks, a last norm, and a head that "
        "scores what comes next. Every position predicts its next token at once, so one pass over a text trains all "
        "of it. To write, the model reads the prompt, picks a token, appends it and goes on. GPT, Llama, Qwen, Gemma "
        "and Mistral are all this; here they differ only in one frozen value, Decoder, that says which parts stand "
        "where and builds them."
    ),
    equation="x = E[ids];   x = block_l(x) for l = 1 … L;   logits = norm(x) Eᵀ",
    papers=(
        "Radford et al. 2018 and 2019, GPT and GPT-2",
        "Touvron et al. 2023, LLaMA, arXiv 2302.13971",
    ),
    files=("models/decoder.py",),
    cost=_decoder,
    read_next=("block", "embedding", "context"),
    aliases=("gpt", "llama", "model", "language-model"),
)

DROPOUT = Explanation(
    name="dropout",
    title="Dropout",
    what=(
        "In training, dropout sets each number to zero with some probability and enlarges the others so that the sum "
        "stays the same on average. The model cannot rely on any single number and learns by heart less easily. In "
        "use it is off. Large models see each text about once, have little to learn by heart, and mostly do without; "
        "GPT-1 and GPT-2 had it, and small models trained for many rounds still gain."
    ),
    equation="training:  y = x · keep / (1 - p),   keep is 0 with probability p, else 1\nin use:    y = x",
    papers=("Srivastava et al. 2014, Dropout, Journal of Machine Learning Research 15",),
    files=("nn/block.py", "nn/attention/grouped.py"),
    cost=_dropout,
    read_next=("block", "plain"),
)

FORMS = Explanation(
    name="forms",
    title="Forms: readable and fast",
    what=(
        "The functions that matter here exist in more than one form with one signature. The readable form is the "
        "equation in a few lines; the fast one is what runs. Forms is the value that names which of them runs: hand "
        "over the readable ones, or your own, and the whole model uses them. Tests hold every form to the same "
        "float64 loops, so that being fast never means being another function."
    ),
    equation="language = cutaway.load(name, forms=READABLE)",
    papers=("This project's own seam: see ops/forms.py",),
    files=("ops/forms.py",),
    cost=_forms,
    read_next=("attention", "quantisation"),
    aliases=("form", "readable", "kernels"),
)

ASSEMBLY = (BLOCK, DECODER, DROPOUT, FORMS)
