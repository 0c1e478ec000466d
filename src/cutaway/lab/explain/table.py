"""All explanations by name, in the order in which a new reader may want them.

Read next: lab/explain/explanation.py, cli/explain.py
"""

from __future__ import annotations

from cutaway.base.errors import BadInput
from cutaway.base.names import did_you_mean
from cutaway.lab.explain.assembly import ASSEMBLY
from cutaway.lab.explain.attention import ATTENTIONS
from cutaway.lab.explain.attention_forms import ATTENTION_FORMS
from cutaway.lab.explain.chinese import CHINESE
from cutaway.lab.explain.decoding import DECODING
from cutaway.lab.explain.experts import MIXTURES
from cutaway.lab.explain.explanation import Explanation
from cutaway.lab.explain.feedforward import FEEDS
from cutaway.lab.explain.generation import GENERATION
from cutaway.lab.explain.kernels import KERNEL_ENTRIES
from cutaway.lab.explain.memory import MEMORY
from cutaway.lab.explain.norms import NORMS
from cutaway.lab.explain.objectives import OBJECTIVES
from cutaway.lab.explain.optimisers import OPTIMISERS
from cutaway.lab.explain.parallel import PARALLEL
from cutaway.lab.explain.positions import POSITIONS
from cutaway.lab.explain.quantisation import QUANTISATION
from cutaway.lab.explain.recurrent import RECURRENT
from cutaway.lab.explain.sparse import SPARSE
from cutaway.lab.explain.speculation import SPECULATION
from cutaway.lab.explain.tokens import TOKENS

FAMILIES: dict[str, tuple[Explanation, ...]] = {
    "the whole": ASSEMBLY,
    "text and tokens": TOKENS,
    "attention": (*ATTENTIONS, *ATTENTION_FORMS),
    "attention to a part": SPARSE,
    "a state in place of a cache": RECURRENT,
    "positions": POSITIONS,
    "feed-forwards": FEEDS,
    "experts": MIXTURES,
    "norms": NORMS,
    "writing an answer": (*DECODING, *GENERATION, *SPECULATION),
    "weights": (*QUANTISATION, *KERNEL_ENTRIES),
    "what is learned": OBJECTIVES,
    "how weights move": OPTIMISERS,
    "training in less memory": MEMORY,
    "many devices": PARALLEL,
}
EXPLANATIONS: dict[str, Explanation] = {one.name: one for family in FAMILIES.values() for one in family}
NAMES: dict[str, Explanation] = (
    EXPLANATIONS
    | {alias: one for one in EXPLANATIONS.values() for alias in one.aliases}
    | {alias: EXPLANATIONS[name] for alias, name in CHINESE.items()}
)

# The class of a module, as `cutaway open` shows it -> what explains it.
KINDS = {
    "DecoderModel": "decoder",
    "BlockModule": "block",
    "GroupedQueryAttention": "grouped-query",
    "LatentAttention": "latent-attention",
    "NativeSparseAttention": "native-sparse",
    "BlockSparseAttention": "block-sparse",
    "GatedDeltaNet": "gated-delta",
    "ExpertsFeed": "experts",
    "RouterModule": "router",
    "MaskedHeadModule": "masked",
    "PlainFeed": "plain",
    "GatedFeed": "gated",
    "RMSNormModule": "rmsnorm",
    "LayerNormModule": "layernorm",
    "BatchNormModule": "batchnorm",
    "LearnedPositions": "learned",
    "SinusoidalPositions": "sinusoidal",
    "Embedding": "embedding",
    "QuantisedEmbedding": "embedding",
    "QuantisedLinear": "quantisation",
}


def find(name: str) -> Explanation:
    """The explanation of a part, by its name or another it goes by. Raises BadInput with the nearest name."""
    plain = name.strip().casefold().replace("_", "-").replace(" ", "-")
    if plain in NAMES:
        return NAMES[plain]
    hint = did_you_mean(plain, NAMES) or "; `cutaway explain` lists all"
    raise BadInput(f'nothing here is called "{name}"{hint}')
