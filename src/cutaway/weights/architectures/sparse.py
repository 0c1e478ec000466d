"""What architectures with experts have in common: how many, under which names, and their dense outline.

Read next: weights/architectures/mixtral.py
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.experts.mixture import Experts
from cutaway.weights.architectures.place import Place
from cutaway.weights.fields import Fields

MOST = 2**12  # experts of a layer
ALL = 2**16  # experts of a model; the largest today have 25,000
STACK = "model.layers.*.mlp.experts"

# Qwen's and DeepSeek's names of experts, published one by one, and as transformers 5 itself holds them.
EXPERT_NAMES = {
    "blocks.*.feed.router": "model.layers.*.mlp.gate",
    "blocks.*.feed.experts.*.gate": f"{STACK}.*.gate_proj",
    "blocks.*.feed.experts.*.up": f"{STACK}.*.up_proj",
    "blocks.*.feed.experts.*.down": f"{STACK}.*.down_proj",
}
STACKED_NAMES = {
    "blocks.*.feed.router": "model.layers.*.mlp.gate",
    "blocks.*.feed.experts.*.gate.weight": Place(name=f"{STACK}.gate_up_proj", part=(0, 2), stacked=True),
    "blocks.*.feed.experts.*.up.weight": Place(name=f"{STACK}.gate_up_proj", part=(1, 2), stacked=True),
    "blocks.*.feed.experts.*.down.weight": Place(name=f"{STACK}.down_proj", stacked=True),
}


def experts(fields: Fields, names: Sequence[str], layers: int, default: int) -> int:
    """How many experts a layer has, under the first of `names` that is there. Refuses more than any memory holds."""
    name = next((one for one in names if fields.get(one, None) is not None), names[0])
    count = fields.count(name, default, most=MOST)
    if count * layers > ALL:
        fields.refuse(name, f"{count} experts in each of {layers} layers are more than {ALL}")
    return count


def feeds(spec: Decoder) -> list[Experts]:
    """The mixtures among a decoder's feeds. Raises BadInput where there are none, or they differ."""
    found = [block.feed for block in spec.blocks if isinstance(block.feed, Experts)]
    if not found or any(one != found[0] for one in found):
        raise BadInput("no mixtures of experts, or several kinds", field="Decoder.blocks")
    return found


def as_dense(spec: Decoder) -> Decoder:
    """The decoder with one expert in the place of each mixture, as `outline.write` knows it."""
    blocks = [
        replace(block, feed=block.feed.expert) if isinstance(block.feed, Experts) else block for block in spec.blocks
    ]
    return replace(spec, blocks=tuple(blocks))
