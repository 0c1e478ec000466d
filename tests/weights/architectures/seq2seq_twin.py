"""One encoder-decoder of transformers, and ours that was read from it, asked the same questions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cutaway.data.batch import Batch
from cutaway.models.encoder_decoder import EncoderDecoder, EncoderDecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.weights.huggingface import read_folder


@dataclass(kw_only=True)
class Seq2SeqTwin:
    """`sources` and `targets`: the sequences that both are asked about; `padding`: the id behind theirs."""

    theirs: Any
    ours: EncoderDecoderModel
    spec: EncoderDecoder
    folder: Path
    sources: list[Tensor]
    targets: list[Tensor]
    padding: int = 0

    def expected(self) -> Tensor:
        """Their logits (N, V): one padded and masked batch."""
        made = self.theirs(
            input_ids=self._padded(self.sources, self.padding),
            attention_mask=self._padded([torch.ones_like(one) for one in self.sources], 0),
            decoder_input_ids=self._padded(self.targets, self.padding),
        ).logits
        return torch.cat([row[: len(target)] for row, target in zip(made, self.targets, strict=True)])

    def batch(self) -> Batch:
        source = Batch(ids_N=torch.cat(self.sources), lengths=tuple(map(len, self.sources)))
        return Batch(ids_N=torch.cat(self.targets), lengths=tuple(map(len, self.targets)), source=source)

    def full(self, forms: Forms = FAST) -> Tensor:
        """Our logits (N, V), all sequences in one ragged pass."""
        batch = self.batch()
        return self.ours(batch.ids_N, Context.of(batch.lengths, forms=forms), source=batch.source)[0]

    @torch.no_grad()
    def cached(self) -> Tensor:
        """The same, token by token through one cache; the sources are read once."""
        cache, batch = ContiguousCache(self.spec.streams(), sequences=len(self.targets), capacity=2), self.batch()
        parts: list[list[Tensor]] = [[] for _ in self.targets]
        for step in range(max(batch.lengths)):
            ids = [one[step : step + 1] for one in self.targets]
            counts = tuple(map(len, ids))
            made, _ = self.ours(torch.cat(ids), Context.of(counts, cache=cache), source=None if step else batch.source)
            cache.check()
            for found, part in zip(parts, made.split(counts), strict=True):
                found.append(part)
        return torch.cat([part for found in parts for part in found])

    def their_targets(self, most: int, **options: Any) -> list[list[int]]:
        """What transformers generates for each source, alone, without its start and its padding."""
        made = []
        for source in self.sources:
            told = {"attention_mask": torch.ones_like(source[None]), "max_new_tokens": most, "do_sample": False}
            ids = self.theirs.generate(source[None], **told, **options)[0, 1:].tolist()
            end = next((at for at, id in enumerate(ids) if id in self.spec.ends), len(ids))
            made.append(ids[: end + 1])
        return made

    def check_meta(self) -> None:
        """The model runs where there is no memory: nothing makes a tensor on the CPU by itself."""
        module, _ = read_folder(self.folder / "theirs", device="meta")
        source = Batch(ids_N=torch.zeros(5, dtype=torch.long, device="meta"), lengths=(2, 3))
        cache = ContiguousCache(self.spec.streams(), sequences=2, device="meta")
        for step in range(3):
            ids = torch.zeros(2, dtype=torch.long, device="meta")
            context = Context.of((1, 1), cache=cache, device="meta")
            assert module(ids, context, source=None if step else source)[0].shape == (2, self.spec.vocab)

    @staticmethod
    def _padded(sequences: list[Tensor], value: int) -> Tensor:
        return torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True, padding_value=value)
