"""Positions explained.   Read next: nn/positions.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _rope() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2

    turned = [(MIXER.heads + MIXER.kv_heads) * MIXER.rope.width for _ in SMOLLM2.blocks if MIXER.rope]
    return (
        Formula(what="parameters", symbols="0", result=0),
        Formula(what="numbers turned per token", symbols="L·(H + G)·K", result=sum(turned)),
    )


def _scaling() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.rope_scaling import LinearScaling

    stretched = int(SMOLLM2.length * LinearScaling(factor=4.0).factor)
    return (
        Formula(what="parameters", symbols="0", result=0),
        Formula(what="tokens that a factor of 4 reaches", symbols="4·S", result=stretched),
    )


def _learned() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.positions import Learned

    table = Learned(length=SMOLLM2.length).cost(SMOLLM2.dim, 1, 1).parameters
    return (Formula(what="parameters, if smollm2 had them", symbols="S·D", result=table),)


def _sinusoidal() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import SMOLLM2
    from cutaway.nn.positions import Sinusoidal

    table = Sinusoidal(length=SMOLLM2.length).cost(SMOLLM2.dim, 1, 1).parameters
    return (Formula(what="parameters", symbols="0", result=table),)


def _alibi() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER
    from cutaway.nn.alibi import Alibi

    slopes = Alibi().slopes(MIXER.heads)
    return (
        Formula(what="parameters", symbols="0", result=0),
        Formula(what="slopes, fixed, one a head", symbols="H", result=len(slopes)),
    )


ROPE = Explanation(
    name="rope",
    title="Rotary position embedding (RoPE)",
    what=(
        "Attention by itself does not know the order of tokens. RoPE takes the numbers of each query and key in pairs "
        "and turns each pair, like the hand of a clock, by an angle that grows with the token's position. The score of "
        "a query and a key then depends on the difference of their angles, hence only on how far apart the tokens are. "
        "The pairs turn at different speeds: fast ones tell neighbours apart, slow ones tell apart what is thousands "
        "of tokens away. Nothing is learned, and the values are not turned. Two layouts are in use, and a checkpoint "
        "fits only one: pairs of neighbours (interleaved), or each number with the one half a head away."
    ),
    equation=(
        "angle of pair i at position p:   a = p · θ^(-2i / K)\n(x, y) becomes   (x·cos a - y·sin a,  x·sin a + y·cos a)"
    ),
    papers=("Su et al. 2021, RoFormer, arXiv 2104.09864",),
    files=("nn/positions.py", "ops/rope.py"),
    cost=_rope,
    read_next=("rope-scaling", "grouped-query"),
    aliases=("rotary", "positions"),
)

SCALING = Explanation(
    name="rope-scaling",
    title="Rotary scaling",
    what=(
        "A model trained on 8,192 tokens has never seen the angles of the 8,193rd position, and fails there. Rotary "
        "scaling changes the frequencies so that a longer text stays within angles it knows. Linear scaling squeezes "
        "all positions evenly. YaRN and Llama 3 squeeze only the slow pairs and leave the fast ones, which tell "
        "neighbours apart, as they were. Dynamic NTK raises the base θ once a prompt is longer than the training; it "
        "is fixed at the prompt's length, since keys already in the cache cannot be turned again."
    ),
    equation=(
        "linear:         f / factor\nLlama 3, YaRN:  kept·f + (1 - kept)·f / factor,  kept from 0 (slow) to 1 (fast)"
    ),
    papers=(
        "Chen et al. 2023, Position Interpolation, arXiv 2306.15595",
        "Peng et al. 2023, YaRN, arXiv 2309.00071",
        "Llama team 2024, arXiv 2407.21783",
    ),
    files=("nn/rope_scaling.py",),
    cost=_scaling,
    read_next=("rope", "context"),
    aliases=("yarn", "ntk", "llama3-scaling"),
)

LEARNED = Explanation(
    name="learned",
    title="Learned positions",
    what=(
        "The simplest way to tell a model the order of tokens: one learned vector for each position, added to the "
        "token's own vector before the first block. GPT-1 and GPT-2 do this. The table has an end: there is no vector "
        "for position 1,025 of a model made for 1,024, so a longer text cannot be read at all. Nothing in it says that "
        "positions 7 and 8 are neighbours either; training has to find that out."
    ),
    equation="x = E[token] + W[position]",
    papers=(
        "Gehring et al. 2017, arXiv 1705.03122",
        "Radford et al. 2018, Improving Language Understanding by Generative Pre-Training",
    ),
    files=("nn/positions.py",),
    cost=_learned,
    read_next=("sinusoidal", "rope"),
    aliases=("learned-positions",),
)

SINUSOIDAL = Explanation(
    name="sinusoidal",
    title="Sinusoidal positions",
    what=(
        "The first Transformer added fixed waves to the token vectors: each pair of numbers is the sine and cosine of "
        "the position at another wavelength, from 6 tokens to 60,000. Nothing is learned and there is no last "
        "position. The vector of a position further on is a rotation of the vector here, which the model can learn to "
        "use. RoPE takes up that idea and applies the rotation where it counts, to queries and keys."
    ),
    equation="PE(p, 2i)     = sin(p / 10000^(2i / D))\nPE(p, 2i + 1) = cos(p / 10000^(2i / D))",
    papers=("Vaswani et al. 2017, Attention Is All You Need, arXiv 1706.03762, section 3.5",),
    files=("nn/positions.py",),
    cost=_sinusoidal,
    read_next=("learned", "rope"),
)

ALIBI = Explanation(
    name="alibi",
    title="ALiBi",
    what=(
        "No position is told at all. Each head's scores lose a fixed amount for every token that lies between query "
        "and key: some heads look near, others far. Since the penalty is the same everywhere, a text longer than any "
        "in training looks familiar, and the loss stays where it was; `cutaway reproduce alibi-extrapolation` shows it "
        "beside learned and sinusoidal positions. The price is that the far past fades for most heads. BLOOM and MPT "
        "use it."
    ),
    equation="score(t, s) = q_t · k_s / √K - m_h · (t - s),    m_h = 2^(-8 h / H)",
    papers=("Press, Smith and Lewis 2021, Train Short, Test Long, arXiv 2108.12409, section 3",),
    files=("nn/alibi.py", "nn/attention/grouped.py"),
    cost=_alibi,
    read_next=("rope", "sinks", "attention"),
    aliases=("linear-biases", "extrapolation"),
)

POSITIONS = (ROPE, SCALING, ALIBI, LEARNED, SINUSOIDAL)
