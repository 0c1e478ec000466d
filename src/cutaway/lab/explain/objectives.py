"""What a model is asked to learn, explained.   Read next: train/objectives/causal.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _cross_entropy() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.ops.cross_entropy import CHUNK

    return (
        Formula(
            what="all scores of a text of S", symbols="4·S·V", result=4 * SMOLLM2.length * SMOLLM2.vocab, unit="bytes"
        ),
        Formula(what="scores held at once, in chunks", symbols="4·2**22", result=4 * CHUNK, unit="bytes"),
    )


def _z_loss() -> tuple[Formula, ...]:
    return (Formula(what="parameters", symbols="0", result=0),)


def _masked() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.train.objectives.masked import Masked

    share = Masked(mask=0, vocab=SMOLLM2.vocab).share
    return (Formula(what="tokens asked for in S", symbols="15·S//100", result=int(share * SMOLLM2.length)),)


def _spans() -> tuple[Formula, ...]:
    from cutaway.train.objectives.spans import counts, cut

    noisy, spans = counts(512, 0.15, 3.0)
    mask = ([False] * 16 + [True] * 3) * spans
    target = cut(range(len(mask)), mask, 10_000, 100)[1]
    return (
        Formula(what="tokens cut out of 512", symbols="(15·512 + 50)//100", result=noisy),
        Formula(what="spans of 3 on average", symbols="(77 + 1)//3", result=spans),
        Formula(
            what="what the decoder says of 26 spans of 3, with marks", symbols="26·(3 + 1) + 1", result=len(target)
        ),
    )


CROSS_ENTROPY = Explanation(
    name="cross-entropy",
    title="Next-token loss and cross-entropy",
    what=(
        "The loss of a language model is how surprised it is: minus the logarithm of the probability that it gave to "
        "the token that came. Every position of a text is a question, so one pass asks thousands. Scores for all of "
        "them at once are larger than the rest of a small model's memory; here losses and gradients are made for some "
        "rows at a time, and the scores forgotten. Label smoothing gives a little of the target to every word. The "
        "gradient is as simple as can be: the probabilities, less one at the right word."
    ),
    equation="loss = log Σ_v e^(s_v) - s_t;    d loss / d s_v = softmax(s)_v - [v = t]",
    papers=(
        "Shannon 1948, A Mathematical Theory of Communication",
        "Szegedy et al. 2015 (label smoothing), arXiv 1512.00567, section 7",
    ),
    files=("ops/cross_entropy.py", "train/objectives/causal.py"),
    cost=_cross_entropy,
    read_next=("logprob", "z-loss", "masked"),
    aliases=("causal", "clm", "next-token", "loss", "label-smoothing"),
)

Z_LOSS = Explanation(
    name="z-loss",
    title="z-loss",
    what=(
        "Adding the same number to all scores changes no probability, so nothing in the loss keeps scores from "
        "drifting away, until half precision cannot tell them apart. The z-loss adds a little of the squared logarithm "
        "of the softmax's denominator, which pulls it towards one. PaLM has it on its words with a weight of 0.0001; "
        "routers of experts have their own, with 0.001. It is a guard against breaking, not a way to learn more."
    ),
    equation="loss + z · (log Σ_v e^(s_v))²",
    papers=(
        "Chowdhery et al. 2022, PaLM, arXiv 2204.02311, section 5",
        "Zoph et al. 2022, ST-MoE, arXiv 2202.08906, equation 5",
    ),
    files=("ops/cross_entropy.py", "nn/experts/balance.py"),
    cost=_z_loss,
    read_next=("cross-entropy", "balancing"),
    aliases=("zloss", "router-z-loss"),
)

MASKED = Explanation(
    name="masked",
    title="Masked language modelling (BERT)",
    what=(
        "An encoder sees both sides of every token, so it cannot be asked for the next one: it would look. Instead "
        "some tokens are hidden and it says what stood there. Of the 15% that are chosen, eight in ten become [MASK], "
        "one another word, one stays, so that the model has to understand every place and not only those with a mark. "
        "Only the chosen places teach, a seventh of what a decoder learns from a pass; what it learns is good for "
        "comparing and sorting texts, not for writing them."
    ),
    equation="loss = -Σ over chosen t of  log p(x_t | the text with the chosen hidden)",
    papers=(
        "Devlin et al. 2018, BERT, arXiv 1810.04805, section 3.1",
        "Liu et al. 2019, RoBERTa (masked anew each time), arXiv 1907.11692",
    ),
    files=("train/objectives/masked.py", "models/masked_head.py", "models/encoder.py"),
    cost=_masked,
    read_next=("span-corruption", "cross-entropy", "wordpiece"),
    aliases=("mlm", "masked-lm", "masked-language-modelling", "masked-language-modeling", "bert"),
)

SPANS = Explanation(
    name="span-corruption",
    title="Span corruption (T5)",
    what=(
        "Stretches of the text are cut out, each is replaced by a mark of its own, and the decoder writes the marks "
        "with what stood there. The encoder reads a shorter text and the decoder writes a short one, so a pass costs "
        "less than with single masks, and several missing words have to fit together. How much is cut is fixed by the "
        "length; where, is drawn anew each time. It is what T5 was trained on."
    ),
    equation=("source: Thank you <X> me to your party <Y> week.\ntarget: <X> for inviting <Y> last <Z>"),
    papers=("Raffel et al. 2019, T5, arXiv 1910.10683, section 3.1.4",),
    files=("train/objectives/spans.py", "train/objectives/seq2seq.py"),
    cost=_spans,
    read_next=("masked", "cross-entropy"),
    aliases=("spans", "t5", "denoising", "sentinel"),
)

OBJECTIVES = (CROSS_ENTROPY, Z_LOSS, MASKED, SPANS)
