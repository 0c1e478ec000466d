"""The architectures that checkpoints may name, and which of them can hold a given model.

Read next: weights/architectures/llama.py
"""

from __future__ import annotations

from typing import Any

from cutaway.base.errors import BadInput
from cutaway.weights.architectures.architecture import Architecture, Spec
from cutaway.weights.architectures.bert import BERT
from cutaway.weights.architectures.deepseek_v2 import DEEPSEEK_V2
from cutaway.weights.architectures.deepseek_v3 import DEEPSEEK_V3
from cutaway.weights.architectures.gemma2 import GEMMA2
from cutaway.weights.architectures.gemma3 import GEMMA3, WITH_PICTURES
from cutaway.weights.architectures.gpt2 import GPT2
from cutaway.weights.architectures.llama import LLAMA
from cutaway.weights.architectures.marian import MARIAN
from cutaway.weights.architectures.mistral import MISTRAL
from cutaway.weights.architectures.mixtral import MIXTRAL
from cutaway.weights.architectures.openai_gpt import OPENAI_GPT
from cutaway.weights.architectures.qwen2 import QWEN2
from cutaway.weights.architectures.qwen3 import QWEN3
from cutaway.weights.architectures.qwen3_moe import QWEN3_MOE
from cutaway.weights.architectures.qwen3_next import QWEN3_NEXT
from cutaway.weights.architectures.t5 import T5
from cutaway.weights.fields import Fields

# By config.json's `model_type`. The order is that in which a home for a model is looked for.
ARCHITECTURES = {
    "llama": LLAMA,
    "mistral": MISTRAL,
    "qwen2": QWEN2,
    "qwen3": QWEN3,
    "mixtral": MIXTRAL,
    "qwen3_moe": QWEN3_MOE,
    "qwen3_next": QWEN3_NEXT,
    "deepseek_v2": DEEPSEEK_V2,
    "deepseek_v3": DEEPSEEK_V3,
    "gemma2": GEMMA2,
    "gemma3_text": GEMMA3,
    "gemma3": WITH_PICTURES,
    "gpt2": GPT2,
    "openai-gpt": OPENAI_GPT,
    "bert": BERT,
    "t5": T5,
    "marian": MARIAN,
}


def architecture_of(fields: Fields) -> Architecture:
    """The architecture that a config.json names. Raises BadInput, with the known ones, for any other."""
    name = fields.get("model_type")
    if not isinstance(name, str) or name not in ARCHITECTURES:
        fields.refuse("model_type", f"{name!r:.60} is not known here (known: {', '.join(ARCHITECTURES)})")
    return ARCHITECTURES[name]


def home_of(spec: Spec) -> tuple[Architecture, dict[str, Any]]:
    """An architecture that can hold a model, and its config.json. Raises BadInput where none can.

    The proof is in the reading: what is written must come back as the very same value.
    """
    for architecture in ARCHITECTURES.values():
        if not isinstance(spec, architecture.holds):
            continue
        try:
            config = architecture.config(spec)
            if architecture.spec(Fields(config, "config.json")) == spec:
                return architecture.of(spec), {"model_type": architecture.model_type, **config}
        except BadInput:
            continue
    said = f"no architecture that other programs know has this shape (known: {', '.join(ARCHITECTURES)})"
    raise BadInput(said, field=type(spec).__name__)
