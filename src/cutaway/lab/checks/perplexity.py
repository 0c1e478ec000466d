"""Perplexity of a fixed text, read in passes of a chosen size: each way of multiplying weights serves some sizes alone.

Jelinek et al. 1977.   ppl = exp(-1/n sum_i log p(x_i | x_1 .. x_(i-1)))
N tokens, flat · V vocabulary.   Read next: ops/multiply/fast.py
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from cutaway.infer.language import Language
from cutaway.nn.context import Context
from cutaway.nn.narrow_cache import contiguous
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.dequantise import dequantise
from cutaway.ops.blocks.format import BlockFormat
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.forms import NAMED
from cutaway.ops.packed import Packed


@torch.inference_mode()
def perplexity(language: Language, ids: Sequence[int], chunk: int) -> float:
    """Of `ids` (two at least), read `chunk` at a time behind a cache; 1 is decoding, all at once is prefill."""
    streams, told = language.spec.streams(), {"dtype": language.dtype, "device": language.device}
    cache = contiguous(streams, language.kept, capacity=len(ids), **told)
    ids_N = torch.tensor(ids, device=language.device)
    formats = language.continuation().formats
    total = 0.0
    for start in range(0, len(ids) - 1, chunk):
        part_N = ids_N[start : min(start + chunk, len(ids) - 1)]
        context = Context.of(
            (len(part_N),),
            cache=cache,
            device=language.device,
            forms=language.forms,
            narrow=language.forms.narrow(len(part_N), formats),  # as generation would
        )
        logits_NV, _ = language.module(part_N, context)
        next_N1 = ids_N[start + 1 : start + 1 + len(part_N), None]
        total -= float(logits_NV.float().log_softmax(-1).gather(1, next_N1).sum())
    return math.exp(total / (len(ids) - 1))


def requantised(language: Language, format: BlockFormat) -> Language:
    """The same model with every packed matrix in another format; it shares all the rest."""
    module = language.spec.build().eval()
    for name, part in language.module.named_modules():
        if isinstance(part, QuantisedLinear):
            module.set_submodule(name, QuantisedLinear(_again(part.packed, format), part.bias))
        elif isinstance(part, QuantisedEmbedding):
            module.set_submodule(name, QuantisedEmbedding(_again(part.packed, format), part.like.dtype))
    for name, parameter in language.module.named_parameters():
        owner, _, leaf = name.rpartition(".")
        setattr(module.get_submodule(owner), leaf, nn.Parameter(parameter.detach(), requires_grad=False))
    return Language(module, language.tokenizer, forms=language.forms, source=language.source)


def _again(packed: Packed, format: BlockFormat) -> Packed:
    return Packed(blocks=quantise(dequantise(packed.blocks, packed.format), format), format=format)


def with_forms(language: Language, name: str) -> Language:
    """The same model, with the forms of a name (ops/forms.py)."""
    return Language(language.module, language.tokenizer, forms=NAMED[name], source=language.source)
