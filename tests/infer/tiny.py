"""A decoder of seven tokens, small enough to look at every text there is, and its logprobs without a cache."""

from __future__ import annotations

import torch

from cutaway.infer.language import Language
from cutaway.infer.prompted import Prompted
from cutaway.models.decoder import Decoder
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.block import Block
from cutaway.nn.feedforward import Gated
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Rope

VOCAB, END = 7, 0


def tiny(seed: int = 0, window: int | None = None) -> Language:
    torch.manual_seed(seed)
    mixer = GroupedQuery(heads=2, kv_heads=1, head_dim=4, rope=Rope(width=4), window=window)
    block = Block(mixer=mixer, feed=Gated(hidden=16), before=RMSNorm())
    module = Decoder(vocab=VOCAB, dim=8, length=32, norm=RMSNorm(), blocks=(block, block)).build().double()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.6)
    return Language(module)


def prompted(language: Language) -> Prompted:
    return Prompted(language.module, language.forms, dtype=language.dtype, device=language.device)


def following(language: Language, ids: list[int]) -> list[float]:
    """log p of each token behind `ids`."""
    with torch.no_grad():
        return language(torch.tensor([ids]))[0, -1].log_softmax(-1).tolist()


def hidden(language: Language, ids: list[int]) -> torch.Tensor:
    """What the head sees at each place, (T, D)."""
    from cutaway.nn.context import Context

    with torch.no_grad():
        context = Context.of((len(ids),))
        x_TD, _ = language.module.hidden(torch.tensor(ids), context)
        return language.module.norm(x_TD, context)
