"""Attention's place taken by a state, explained.   Read next: nn/attention/gated_delta.py"""

from __future__ import annotations

from cutaway.lab.explain.explanation import Explanation, Formula


def _delta() -> tuple[Formula, ...]:
    from cutaway.lab.explain.example import MIXER, SMOLLM2
    from cutaway.nn.attention.gated_delta import GatedDelta

    value = GatedDelta(heads=MIXER.heads, key_heads=MIXER.heads, head_dim=MIXER.head_dim)
    held, cache = value.cost(SMOLLM2.dim, 1, SMOLLM2.length), MIXER.cost(SMOLLM2.dim, 1, SMOLLM2.length)
    return (
        Formula(
            what="state and the convolution's 3 last tokens, at any length",
            symbols="4·(H·K·K + 3·3·H·K)",
            result=held.cache_bytes,
            unit="bytes",
        ),
        Formula(what="cache of grouped attention at S", symbols="2·G·K·4·S", result=cache.cache_bytes, unit="bytes"),
    )


DELTA = Explanation(
    name="gated-delta",
    title="Gated DeltaNet",
    what=(
        "Attention keeps every token and asks all of them anew. Here a head keeps one matrix, which answers a key with "
        "a value, and each token changes it: all of it fades a little, and then the key's old answer is moved towards "
        "the new value, by the difference alone. That is the delta rule; adding the value outright would pile answers "
        "up on each other. The matrix is as large after a million tokens as after one, and what does not fit into it "
        "is lost, so models mix such layers with a few of full attention. A long text goes chunk by chunk: within one, "
        "all differences are the solution of one triangular system."
    ),
    equation="S_t = a_t S + k_t u_tᵀ,    u_t = b_t (v_t - (a_t S)ᵀ k_t),    y_t = S_tᵀ q_t",
    papers=(
        "Yang et al. 2024, Gated Delta Networks, arXiv 2412.06464",
        "Yang et al. 2024, DeltaNet over the sequence length, arXiv 2406.06484",
    ),
    files=("nn/attention/gated_delta.py", "nn/attention/short_convolution.py", "ops/delta.py"),
    cost=_delta,
    read_next=("kv-cache", "grouped-query", "sliding-window"),
    aliases=("gated-deltanet", "deltanet", "delta-rule", "linear-attention", "qwen3-next"),
)

RECURRENT = (DELTA,)
