"""DeepSeek-V3 (and R1): V2's latent attention; each expert scored by itself, and kept in balance by a bias.

DeepSeek-AI 2024 (arXiv 2412.19437), sections 2.1.1 and 2.1.2. Its module that predicts a second token ahead (section
2.2, a layer behind the last) is passed over: the next token does not need it.
Read next: nn/experts/routers.py
"""

from __future__ import annotations

from typing import Any

from cutaway.base.errors import BadInput
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.latent import Latent
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK
from cutaway.weights.architectures import deepseek_v2, sparse
from cutaway.weights.architectures.architecture import Architecture
from cutaway.weights.fields import Fields

LONGEST = 4096
_BIAS = {"blocks.*.feed.router.bias": "model.layers.*.mlp.gate.e_score_correction_bias"}
NAMES = deepseek_v2.DENSE_NAMES | _BIAS


def spec(fields: Fields) -> Decoder:
    mixer = deepseek_v2.latent(fields, LONGEST, interleaved=fields.flag("rope_interleave", True))

    def mixed() -> Experts:
        for name, known in (("scoring_func", "sigmoid"), ("topk_method", "noaux_tc")):
            if fields.get(name, known) != known:
                fields.refuse(name, f'only "{known}" is known for this architecture')
        groups = Groups(count=fields.count("n_group", 8), top_k=fields.count("topk_group", 4), worth="best two")
        router = SigmoidTopK(
            top_k=fields.count("num_experts_per_tok", 8),
            renormalise=fields.flag("norm_topk_prob", True),
            scale=fields.number("routed_scaling_factor", 2.5),
            groups=groups if groups.count > 1 else None,  # one group is all experts
        )
        return Experts(router=router, **deepseek_v2.feeds(fields, experts=256, shared=1, hidden=2048))

    return deepseek_v2.assembled(fields, mixer, mixed, dense=3, longest=LONGEST)


def config(spec: Decoder) -> dict[str, Any]:
    written, mixed = deepseek_v2.write(spec)
    mixer = spec.blocks[0].mixer
    written["rope_interleave"] = isinstance(mixer, Latent) and mixer.rope.interleaved
    if mixed is None:
        return written
    if not isinstance(mixed.router, SigmoidTopK):
        raise BadInput("a router is not SigmoidTopK", field="Experts.router")
    return written | {
        "routed_scaling_factor": mixed.router.scale,
        "norm_topk_prob": mixed.router.renormalise,
        "scoring_func": "sigmoid",
        "topk_method": "noaux_tc",
    }


DEEPSEEK_V3 = Architecture(
    model_type="deepseek_v3",
    made_by="DeepseekV3ForCausalLM",
    prefix="model.",
    names=sparse.EXPERT_NAMES | NAMES,
    stacked_names=sparse.STACKED_NAMES | NAMES,
    spec=spec,
    config=config,
    passed_over=("model.layers.61.",),  # behind the last of 61: 0 to 60
)
