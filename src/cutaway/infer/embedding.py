"""Texts to vectors: an encoder's hidden states, pooled to one vector for each text.

Sentence-BERT (Reimers and Gurevych 2019, arXiv 1908.10084), section 3:   v = mean_n h_n, then v / |v|
A folder of sentence-transformers says which pooling it was trained with, and how long a text may be.
Texts are run in order of their lengths, end to end and without padding, so that nobody's neighbours matter.
N tokens, flat · B texts · D model dim.   Read next: models/pooling.py, infer/sentence.py
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.base.progress import track
from cutaway.models.encoder import EncoderModel
from cutaway.models.pooling import pool, pooling_name
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.text.tokenizer import Tokenizer

TOKENS = 2048  # most tokens in one pass, unless one text has more: the widest activations take 12 MB at 1,536 dims


@dataclass(frozen=True, kw_only=True)
class Pooling:
    """`by`: "mean", "cls", "max" or "pooler" (models/pooling.py). `unit`: bring vectors to length 1. `length`: most
    tokens of a text, special ones included; what is longer is cut, and None is the encoder's own length. `lower`: texts
    are made lower case first.
    """

    by: str = "mean"
    unit: bool = True
    length: int | None = None
    lower: bool = False

    def __post_init__(self) -> None:
        pooling_name(self.by)
        if self.length is not None and self.length < 1:
            raise BadInput(f"must be at least 1, is {self.length}", field="Pooling.length")


@torch.inference_mode()
def embed(
    module: EncoderModel,
    tokenizer: Tokenizer,
    texts: Sequence[str],
    pooling: Pooling,
    *,
    forms: Forms = FAST,
) -> Tensor:
    """One vector for each text, (number of texts, D), float32, on the CPU; the order is that of the texts.

    Raises BadInput for what is no list of texts. A text without any token, special ones included, is refused too.
    """
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Sequence):
        raise BadInput(f"a list of texts is needed, not a {type(texts).__name__}", field="texts")
    most = min(pooling.length or module.spec.length, module.spec.length)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if wrong is not None:
        raise BadInput(f"only texts can be embedded, not a {type(wrong).__name__}", field="texts")
    found = [encode(tokenizer, text.lower() if pooling.lower else text, most) for text in texts]
    made_BD = torch.zeros(len(texts), module.spec.dim)
    device = module.embedding.weight.device
    for batch in track(list(_batches([len(ids) for ids in found])), "embedding"):
        ids_N = torch.tensor([id for index in batch for id in found[index]], device=device)
        context = Context.of(tuple(len(found[index]) for index in batch), device=device, forms=forms, causal=False)
        x_ND, _ = module.hidden(ids_N, context)
        made_BD[batch] = pool(module, x_ND.float(), context, pooling.by, unit=pooling.unit).cpu()
    return made_BD


def _batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Indices of texts, shortest first, in passes of `TOKENS` tokens or less."""
    batch: list[int] = []
    tokens = 0
    for index in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and tokens + lengths[index] > TOKENS:
            yield batch
            batch, tokens = [], 0
        batch.append(index)
        tokens += lengths[index]
    if batch:
        yield batch


def encode(tokenizer: Tokenizer, text: str, most: int) -> list[int]:
    """The ids of a text, special tokens around it, cut at its end so that there are `most` or fewer in all."""
    whole = tokenizer.encode(text)
    if len(whole) <= most:
        return whole
    inner = tokenizer.encode(text, special=False)
    around = len(whole) - len(inner)
    before = next((at for at in range(around + 1) if whole[at : at + len(inner)] == inner), None)
    if before is None or around >= most:
        raise BadInput(f"{most} tokens leave no room beside {around} special ones", field="Pooling.length")
    return whole[:before] + inner[: most - around] + whole[before + len(inner) :]
