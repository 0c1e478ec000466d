"""Fewer passes and fewer blocks for an answer, explained.   Read next: infer/speculate.py, infer/early_exit.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _guesses() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    each = "2·V·D + L·(4·D·H·K + 4·D·G·K + 6·D·F)"
    return (
        Formula(what="FLOPs of the first token", symbols=f"{each} + 4·L·H·K", result=SMOLLM2.cost(1, 1).flops),
        Formula(
            what="of a pass over it and 7 guesses",
            symbols=f"8·({each}) + 36·4·L·H·K",
            result=SMOLLM2.cost(8, 8).flops,
        ),
        Formula(what="parameters, read once in either", symbols="P", result=SMOLLM2.cost(1, 1).parameters),
    )


def _exits() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    block = SMOLLM2.blocks[0].cost(SMOLLM2.dim, 1, 1).flops
    head = SMOLLM2.cost(1, 1).flops - block * len(SMOLLM2.blocks)
    return (
        Formula(what="FLOPs that a block left out saves", symbols="4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K", result=block),
        Formula(what="FLOPs of asking the head once", symbols="2·V·D", result=head),
    )


SPECULATIVE = Explanation(
    name="speculative",
    title="Speculative decoding",
    what=(
        "A pass over one token reads every weight, and a pass over eight reads them just once as well, which on most "
        "machines takes little longer. So somebody cheap guesses at the next tokens, the model reads all guesses in "
        "one pass, and those are kept that it would have written itself, and one token more that it does write. Who "
        "guesses: the text, where the last few tokens stood before; a smaller model with the same tokens; or the "
        "model's own first blocks. What is kept is decided so that the answer is distributed exactly as without "
        "guesses; a greedy one is the same, token for token. Guesses that are wrong cost time, so each answer "
        "measures whether they pay: copies, code and lists gain most, free prose least."
    ),
    equation=(
        "keep x, drawn from q, with probability min(1, p(x) / q(x))\n"
        "or else draw from max(0, p - q) / Σ max(0, p - q)\n"
        "tokens a pass = (1 - a^(g+1)) / (1 - a),   g guesses, each kept with probability a"
    ),
    papers=(
        "Leviathan et al. 2022, Fast Inference from Transformers via Speculative Decoding, arXiv 2211.17192",
        "Chen et al. 2023, Accelerating LLM Decoding with Speculative Sampling, arXiv 2302.01318",
        "Yang et al. 2023, Inference with Reference (guesses from the text), arXiv 2304.04487",
    ),
    files=("infer/speculate.py", "infer/acceptance.py", "infer/proposers.py", "infer/thrift.py", "infer/guessing.py"),
    cost=_guesses,
    read_next=("sampling", "early-exit", "kv-cache"),
    aliases=("speculative-decoding", "speculation", "prompt-lookup", "draft-model", "self-speculation"),
)

EARLY_EXIT = Explanation(
    name="early-exit",
    title="Early exit",
    what=(
        "Some tokens are easy, and behind some of its blocks a model may know already what it will say. Early exit "
        "asks the head there; where the likeliest token is likely enough, the rest of the blocks is left out. Later "
        "tokens still want keys and values of the blocks left out: here the token's residual waits before them, and "
        "the next token that goes deeper takes it along, so that the cache stays exact. What it costs is quality: a "
        "model that was trained by its last block alone agrees with itself early on few tokens, and is often sure of "
        "wrong ones; trained with a loss behind every block it agrees on most. With a large vocabulary the head "
        "itself is dear, so that it pays to ask it at one or two blocks only."
    ),
    equation="leave behind block b, the first with max softmax(head(norm(x_b))) >= threshold",
    papers=(
        "Schuster et al. 2022, Confident Adaptive Language Modeling, arXiv 2207.07061",
        "Elhoushi et al. 2024, LayerSkip, arXiv 2404.16710",
        "Chen et al. 2023, EE-LLM (keys and values made later), arXiv 2312.04916",
    ),
    files=("infer/early_exit.py", "lab/exits.py"),
    cost=_exits,
    read_next=("logit-lens", "speculative"),
    aliases=("calm", "layerskip", "exits"),
)

SPECULATION = (SPECULATIVE, EARLY_EXIT)
