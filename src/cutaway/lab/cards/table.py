"""All reproduction cards, by the name that `cutaway reproduce` takes.

Read next: lab/card.py
"""

from __future__ import annotations

from cutaway.base.errors import NotFound
from cutaway.base.names import did_you_mean
from cutaway.lab.card import Card
from cutaway.lab.cards import (
    adam,
    alibi_extrapolation,
    attention_complexity,
    backward,
    beam_finds_better,
    counts,
    early_exit_sweep,
    flash_memory_slope,
    gqa_cache,
    int4_group_error,
    int4_roofline,
    int8_activation_error,
    kv_cache_speedup,
    mla_absorbed,
    mla_cache,
    moe_balance,
    mqa_from_mha,
    nanogpt,
    nsa_equation_9,
    nsa_tokens_read,
    paged_waste,
    prefix_sharing,
    ring,
    rope_relative,
    speculative_expected_tokens,
    speculative_lossless,
    warm_up,
    zero,
)

MODULES = (
    counts,
    zero,
    backward,
    adam,
    ring,
    warm_up,
    nanogpt,
    gqa_cache,
    mla_cache,
    mla_absorbed,
    rope_relative,
    nsa_tokens_read,
    nsa_equation_9,
    moe_balance,
    flash_memory_slope,
    attention_complexity,
    alibi_extrapolation,
    mqa_from_mha,
    kv_cache_speedup,
    paged_waste,
    prefix_sharing,
    beam_finds_better,
    int4_group_error,
    int4_roofline,
    int8_activation_error,
    speculative_expected_tokens,
    speculative_lossless,
    early_exit_sweep,
)
CARDS: dict[str, Card] = {module.CARD.name: module.CARD for module in MODULES}


def find(name: str) -> Card:
    """The card called `name`. Raises NotFound with the nearest."""
    if name not in CARDS:
        raise NotFound(f'no card is called "{name}"{did_you_mean(name, CARDS)}; `cutaway reproduce --list` lists them')
    return CARDS[name]
