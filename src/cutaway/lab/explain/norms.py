"""Norms explained.   Read next: nn/norms.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _rms_norm() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.norms import RMSNorm

    one = RMSNorm().cost(SMOLLM2.dim, 1, 1).parameters
    return (
        Formula(what="parameters of one", symbols="D", result=one),
        Formula(what="parameters of all", symbols="(2·L + 1)·D", result=(2 * len(SMOLLM2.blocks) + 1) * one),
    )


def _layer_norm() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.norms import LayerNorm

    return (Formula(what="parameters of one", symbols="2·D", result=LayerNorm().cost(SMOLLM2.dim, 1, 1).parameters),)


def _batch_norm() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.batch_norm import BatchNorm

    one = BatchNorm().cost(SMOLLM2.dim, 1, 1).parameters
    return (Formula(what="parameters of one", symbols="2·D", result=one),)


RMS_NORM = Explanation(
    name="rmsnorm",
    title="RMS norm",
    what=(
        "Blocks add to the residual again and again, so its numbers grow from block to block. RMS norm divides each "
        "token's vector by its root mean square, so that every part reads numbers of about one size whatever came "
        "before. A learned weight per number then says how much of each is passed on. Unlike layer norm it does not "
        "take the mean away: that turned out to be needless, and leaving it out is cheaper. Gemma stores the weight "
        "less one, so that a weight of zero means 'as it is'. eps keeps a vector of zeros from being divided by zero."
    ),
    equation="y = x / √(mean(x²) + eps) · weight",
    papers=("Zhang and Sennrich 2019, Root Mean Square Layer Normalization, arXiv 1910.07467",),
    files=("nn/norms.py", "ops/norm.py"),
    cost=_rms_norm,
    read_next=("layernorm", "block"),
    aliases=("rms-norm", "norm"),
)

LAYER_NORM = Explanation(
    name="layernorm",
    title="Layer norm",
    what=(
        "Layer norm brings each token's vector to mean 0 and variance 1, then scales and shifts every number by a "
        "learned weight and bias. It looks at one token alone, so it does the same in training and in use, with one "
        "token or a thousand. GPT-1 and GPT-2 use it; most later language models use RMS norm, which leaves the mean "
        "and the bias out. GPT-1 norms after each part is added (post-norm); GPT-2 and those after it norm what each "
        "part reads (pre-norm), which trains more steadily when there are many blocks."
    ),
    equation="y = (x - mean(x)) / √(var(x) + eps) · weight + bias",
    papers=("Ba, Kiros and Hinton 2016, Layer Normalization, arXiv 1607.06450",),
    files=("nn/norms.py", "ops/norm.py"),
    cost=_layer_norm,
    read_next=("rmsnorm", "batchnorm"),
    aliases=("layer-norm",),
)

BATCH_NORM = Explanation(
    name="batchnorm",
    title="Batch norm",
    what=(
        "Batch norm brings each feature to mean 0 and variance 1 over all rows of the batch, instead of each row over "
        "its features. In training it measures the batch and keeps a running average of what it found; in use it "
        "takes that average. It made deep image networks trainable. For text it fits badly: what a token becomes "
        "would depend on the other sequences in its batch, and one token at a time is no batch at all. That is why "
        "language models norm each token by itself."
    ),
    equation="y = (x - mean over batch) / √(variance over batch + eps) · weight + bias",
    papers=("Ioffe and Szegedy 2015, Batch Normalization, arXiv 1502.03167",),
    files=("nn/batch_norm.py",),
    cost=_batch_norm,
    read_next=("layernorm",),
    aliases=("batch-norm",),
)

NORMS = (RMS_NORM, LAYER_NORM, BATCH_NORM)
