"""How an answer is made, token by token, explained.   Read next: infer/language.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _cache() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    return (
        Formula(what="per token", symbols="2·G·K·4·L", result=SMOLLM2.cost(1, 1).cache_bytes, unit="bytes"),
        Formula(
            what="at S tokens", symbols="2·G·K·4·L·S", result=SMOLLM2.cost(1, SMOLLM2.length).cache_bytes, unit="bytes"
        ),
    )


def _context() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    length = SMOLLM2.length
    first, last = SMOLLM2.cost(1, 1).flops, SMOLLM2.cost(1, length).flops
    rest = "2·V·D + L·(4·D·H·K + 4·D·G·K + 6·D·F + 4·H·K"
    return (
        Formula(what="FLOPs of the first token", symbols=f"{rest})", result=first),
        Formula(what="FLOPs of the last token", symbols=f"{rest}·S)", result=last),
        Formula(
            what="FLOPs of reading all S",
            symbols="S·(2·V·D + L·(4·D·H·K + 4·D·G·K + 6·D·F + 2·H·K·(S + 1)))",
            result=SMOLLM2.cost(length, length).flops,
        ),
    )


def _sampling() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    return (
        Formula(what="parameters", symbols="0", result=0),
        Formula(what="logits to choose from, each token", symbols="V", result=SMOLLM2.vocab),
    )


def _logprob() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    return (Formula(what="logits summed for one logprob", symbols="V", result=SMOLLM2.vocab),)


def _lens() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2

    blocks = sum(block.cost(SMOLLM2.dim, 1, 1).flops for block in SMOLLM2.blocks)
    head = SMOLLM2.cost(1, 1).flops - blocks
    return (Formula(what="FLOPs of all guesses at one position", symbols="L·2·V·D", result=head * len(SMOLLM2.blocks)),)


CACHE = Explanation(
    name="kv-cache",
    title="Key-value cache",
    what=(
        "A model writes one token at a time, and each new token attends to all before it. Their keys and values do not "
        "change any more, so they are kept instead of computed anew: that is the cache. It turns the work for the "
        "thousandth token from reading a thousand tokens into reading one. It costs memory that grows with the text, "
        "and at long contexts it is the cache, not the weights, that fills a machine. Grouped-query attention and "
        "windows make it smaller. Cached and uncached passes must give equal logits; a test holds every mixer to that."
    ),
    equation="keep k_t, v_t of every block;   token t reads k_1 … k_t, v_1 … v_t",
    papers=("Pope et al. 2022, Efficiently Scaling Transformer Inference, arXiv 2211.05102",),
    files=("nn/cache.py", "nn/stream.py", "nn/context.py"),
    cost=_cache,
    read_next=("grouped-query", "context"),
    aliases=("cache", "kvcache"),
)

CONTEXT = Explanation(
    name="context",
    title="Context",
    what=(
        "The context is what a model can take into account at once: the prompt and what it has written so far. It has "
        "a largest length, set by the positions that the model was trained on. Reading a text costs about the same per "
        "token at first; then attention, whose work grows with every token seen, takes over. In this code Context is "
        "also the one argument that tells a forward pass where it stands: positions, sequence boundaries, the cache, "
        "and which form of each function is to run."
    ),
    equation="FLOPs of token S = 2 · (matrix weights) + L·4·H·K·S",
    papers=("Kaplan et al. 2020, Scaling Laws, arXiv 2001.08361, table 1",),
    files=("nn/context.py", "ops/visible.py"),
    cost=_context,
    read_next=("kv-cache", "rope-scaling"),
    aliases=("context-length", "flops"),
)

SAMPLING = Explanation(
    name="sampling",
    title="Sampling",
    what=(
        "The model gives a probability to every token of the vocabulary; sampling picks one. Temperature 0 takes the "
        "likeliest, always the same. Above 0 the logits are divided by the temperature and one token is drawn: below "
        "1 the likely ones gain, above 1 the unlikely ones do. Drawing from all 49,152 now and then hits nonsense, so "
        "the tail is cut off first: top-k keeps the k likeliest, top-p the likeliest that together reach p, min-p "
        "those at least p times as likely as the best. A repetition penalty makes tokens seen before less likely."
    ),
    equation="p = softmax(logits / temperature),   cut by top-k, top-p, min-p, then p / Σ p",
    papers=(
        "Holtzman et al. 2019, The Curious Case of Neural Text Degeneration (top-p), arXiv 1904.09751",
        "Nguyen et al. 2024, min-p, arXiv 2407.01082",
        "Keskar et al. 2019, CTRL (penalty), arXiv 1909.05858, section 4.1",
    ),
    files=("infer/sampler.py", "infer/decoding.py"),
    cost=_sampling,
    read_next=("decoding", "logprob"),
    aliases=("temperature", "top-k", "top-p", "min-p", "greedy"),
)

LOGPROB = Explanation(
    name="logprob",
    title="Logprob",
    what=(
        "A logprob is the natural logarithm of the probability that a model gives to a token: 0 is certain, -0.7 is "
        "one in two, -4.6 one in a hundred. Logarithms are used because the probability of a text is the product of "
        "its tokens', a number far too small to be kept, while the sum of logprobs is harmless. The mean logprob with "
        "its sign turned is the loss that training lowers; e to that power is the perplexity. Those that an answer "
        "carries are of the model's own distribution, before temperature and penalties."
    ),
    equation="logprob(t) = logit_t - ln Σ_v e^(logit_v)\nperplexity = e^(-mean logprob)",
    papers=("Shannon 1948, A Mathematical Theory of Communication",),
    files=("infer/language.py", "infer/answer.py"),
    cost=_logprob,
    read_next=("sampling", "embedding"),
    aliases=("logprobs", "perplexity", "softmax", "entropy"),
)

LENS = Explanation(
    name="logit-lens",
    title="Logit lens",
    what=(
        "All blocks add to one vector per token, the residual, and only behind the last one is it turned into logits. "
        "The logit lens turns it into logits behind every block, as if that were the last. What comes out are the "
        "guesses the model would make if it stopped there: at first words that have little to do with the text, then "
        "the right kind of word, then the answer. It shows where a model makes up its mind. Take early guesses with "
        "care: nothing in training asked those blocks to speak."
    ),
    equation="guess behind block l = softmax(head(norm(x_l)))",
    papers=("nostalgebraist 2020, interpreting GPT: the logit lens", "Belrose et al. 2023, arXiv 2303.08112"),
    files=("lab/lens.py", "models/decoder.py"),
    cost=_lens,
    read_next=("embedding", "decoder"),
    aliases=("lens",),
)

GENERATION = (CACHE, CONTEXT, SAMPLING, LOGPROB, LENS)
