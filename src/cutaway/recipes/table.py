"""The values that a recipe may be made of, by the names under which run.json and the command line know them.

Read next: recipes/listing.py, base/values.py
"""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import get_args

from cutaway.models.decoder import Decoder
from cutaway.models.encoder import Encoder
from cutaway.models.encoder_decoder import EncoderDecoder
from cutaway.models.masked_head import MaskedHead
from cutaway.models.pooler import Pooler
from cutaway.models.stack import Stack
from cutaway.nn import initialisation, rope_scaling
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.cross import Cross
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.experts.groups import Groups
from cutaway.nn.experts.mixture import Experts
from cutaway.nn.experts.routers import SigmoidTopK, SoftmaxTopK, TopKSoftmax
from cutaway.nn.feedforward import Gated, Plain
from cutaway.nn.norms import LayerNorm, RMSNorm
from cutaway.nn.positions import Learned, Rope, Sinusoidal
from cutaway.nn.relative_bias import RelativeBias
from cutaway.recipes.invented import Invented
from cutaway.recipes.language import NextToken
from cutaway.recipes.listing import find
from cutaway.recipes.masked import HiddenToken
from cutaway.recipes.override import make
from cutaway.recipes.recipe import Recipe, Sampling
from cutaway.recipes.sheet import Sheet
from cutaway.recipes.shelved import Shelved
from cutaway.recipes.stream import Stream
from cutaway.recipes.transduce import Transduce
from cutaway.recipes.vocabulary import BytePairs, Characters, WordPieces
from cutaway.train.optimisers.adafactor import Adafactor
from cutaway.train.optimisers.adam import Adam
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.lion import Lion
from cutaway.train.optimisers.muon import Muon
from cutaway.train.optimisers.sgd import SGD
from cutaway.train.schedules import Constant, Cosine, InverseSquareRoot, Linear, WarmupStableDecay

_TASKS = (Recipe, Sampling, NextToken, HiddenToken, Transduce)
_DATA = (Invented, Sheet, Shelved, Stream, BytePairs, Characters, WordPieces)
_MODELS = (Decoder, Encoder, EncoderDecoder, Stack, Block, MaskedHead, Pooler)
_EXPERTS = (Experts, SoftmaxTopK, TopKSoftmax, SigmoidTopK, Groups)
_PARTS = (Alibi, GroupedQuery, Cross, Gated, Plain, LayerNorm, RMSNorm, Learned, Rope, Sinusoidal, RelativeBias)
_SCALINGS = (rope_scaling.LinearScaling, rope_scaling.DynamicNtk, rope_scaling.Llama3Scaling, rope_scaling.Yarn)
_INITIALISATIONS = get_args(initialisation.Initialisation)
_OPTIMISERS = (AdamW, Adam, SGD, Lion, Adafactor, Muon)
_SCHEDULES = (Constant, Cosine, InverseSquareRoot, Linear, WarmupStableDecay)
VALUES = MappingProxyType(
    {
        one.__name__: one
        for one in (
            *_TASKS,
            *_DATA,
            *_MODELS,
            *_PARTS,
            *_EXPERTS,
            *_SCALINGS,
            *_INITIALISATIONS,
            *_OPTIMISERS,
            *_SCHEDULES,
        )
    }
)


def made(name: str, changes: Sequence[str] = ()) -> Recipe:
    """The recipe called `name`, changed by `field=value`s. Raises NotFound and BadInput with the nearest names."""
    return make(find(name).function(), changes, VALUES)
