"""An encoder-decoder as its user meets it: a source in, what the model makes of it out, as text or as ids.

B batch · S source position · T target position · V vocabulary.   Read next: infer/search.py, infer/beams.py
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.data.batch import Batch
from cutaway.infer.answer import Answer
from cutaway.infer.beams import Beam, Beams, Early
from cutaway.infer.search import beam_search, greedy
from cutaway.infer.targets import Targets
from cutaway.models.encoder_decoder import EncoderDecoder, EncoderDecoderModel
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.weights.parameters import refuse_unsound

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

One = str | Sequence[int]


class Seq2Seq:
    """An encoder-decoder with its tokenizer. `source` is where it came from, for messages."""

    def __init__(
        self,
        module: EncoderDecoderModel,
        tokenizer: Tokenizer | None = None,
        *,
        forms: Forms = FAST,
        source: str | None = None,
    ):
        self.module = module.eval()
        self.tokenizer = tokenizer
        self.forms = forms
        self.source = source
        place = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self.dtype, self.device = place.dtype, place.device

    @property
    def spec(self) -> EncoderDecoder:
        return self.module.spec

    def __repr__(self) -> str:
        blocks = f"{len(self.spec.encoder.blocks)} + {len(self.spec.decoder.blocks)} blocks"
        return f"Seq2Seq({self.source or 'in memory'}, {blocks} of dim {self.spec.dim})"

    def __call__(self, source_BS: Tensor, target_BT: Tensor) -> Tensor:
        """Sources (B, S) and targets (B, T), which begin with `spec.start` -> logits (B, T, V). Gradients flow as
        torch's present mode says."""
        for name, ids in (("source_BS", source_BS), ("target_BT", target_BT)):
            if ids.ndim != 2:
                raise BadInput(f"must be (batch, position), has shape {tuple(ids.shape)}", field=name)
        self.check_weights()
        source = Batch(ids_N=source_BS.flatten().to(self.device), lengths=(source_BS.shape[1],) * source_BS.shape[0])
        lengths = (target_BT.shape[1],) * target_BT.shape[0]
        context = Context.of(lengths, device=self.device, forms=self.forms)
        logits_NV, _ = self.module(target_BT.flatten().to(self.device), context, source=source)
        return logits_NV.unflatten(0, tuple(target_BT.shape))

    def encode(self, source: One) -> list[int]:
        """The ids of one source: a text, with the end that the tokenizer sets behind it, or ids as they are."""
        if not isinstance(source, Sequence) or isinstance(source, (bytes, bytearray)):
            raise BadInput(f"must be a text or token ids, is a {type(source).__name__}", field="source")
        if isinstance(source, str):
            if self.tokenizer is None:
                raise BadInput("this model came without a tokenizer: give ids", source=self.source, field="source")
            ids = self.tokenizer.encode(source)
        else:
            ids = [id for id in source if type(id) is int]
            if len(ids) != len(source):
                raise BadInput("must be a text or token ids (ints)", field="source")
        vocab, most = self.spec.source_vocab or self.spec.vocab, self.spec.encoder.length
        wrong = next((id for id in ids if not 0 <= id < vocab), None)
        if wrong is not None:
            raise BadInput(f"token id {wrong} is outside the vocabulary of {vocab}", field="source")
        if not ids:
            raise BadInput("the source is empty", field="source")
        if most is not None and len(ids) > most:
            raise BadInput(f"the source has {len(ids)} tokens, the encoder's most is {most}", field="source")
        return ids

    @overload  # a text is a sequence of texts too; it is meant as one
    def generate(  # pyright: ignore[reportOverlappingOverload]
        self,
        source: str | Sequence[int],
        *,
        max_tokens: int = ...,
        beams: int = ...,
        length_penalty: float = ...,
        early: Early = ...,
    ) -> Answer: ...
    @overload
    def generate(
        self,
        source: Sequence[str] | Sequence[Sequence[int]],
        *,
        max_tokens: int = ...,
        beams: int = ...,
        length_penalty: float = ...,
        early: Early = ...,
    ) -> list[Answer]: ...
    def generate(
        self,
        source: One | Sequence[One],
        *,
        max_tokens: int = 256,
        beams: int = 1,
        length_penalty: float = 1.0,
        early: Early = False,
    ) -> Answer | list[Answer]:
        """What the model writes for a source, or for each of several: nothing is padded, each comes out as if alone.

        `source`: a text or ids; a list of texts or of lists of ids for several. `beams`: 1 takes the likeliest token at
        each step (greedy), more search for the target with the best log p / length^`length_penalty`; `early` says when
        that search stops (infer/beams.py). Targets end with `spec.ends` or the tokenizer's, or at `max_tokens`.
        Raises BadInput for an impossible source or option.
        """
        _check(max_tokens=max_tokens, beams=beams, length_penalty=length_penalty, early=early)
        several = not isinstance(source, str) and isinstance(source, Sequence) and not _is_ids(source)
        sources = [self.encode(one) for one in (source if several else [source])]  # type: ignore[list-item]
        if self.device.type == "meta":
            raise BadInput("a model on the meta device has shapes and no numbers", source=self.source, field="device")
        self.check_weights()
        ends = frozenset(self.spec.ends) | (self.tokenizer.eos_ids if self.tokenizer else frozenset())
        length = self.spec.decoder.length
        most = max_tokens if length is None else min(max_tokens, length)
        targets = Targets(self.module, self.forms, dtype=self.dtype, device=self.device)
        if beams == 1:
            written = greedy(targets, sources, most=most, ends=ends)
        else:
            rule = {"width": beams, "ends": ends, "most": most, "penalty": length_penalty, "early": early}
            searches = [Beams(**rule) for _ in sources]
            beam_search(targets, sources, searches)
            written = [search.best for search in searches]
        answers = [self._answer(beam, ends) for beam in written]
        return answers if several else answers[0]

    def embed(self, texts: Sequence[str]) -> Tensor:
        raise CutawayError("an encoder-decoder has no text embedding of its own: embed with an encoder")

    def check_weights(self) -> None:
        """Raises BadInput where weights are NaN or infinite. Reads all of them."""
        if self.device.type != "meta":
            refuse_unsound(self.module, self.source)

    def _answer(self, beam: Beam, ends: frozenset[int]) -> Answer:
        ended = bool(beam.tokens) and beam.tokens[-1] in ends
        text = self.tokenizer.decode(beam.tokens) if self.tokenizer else ""
        return Answer(
            text=text, tokens=beam.tokens, logprobs=beam.logprobs, finish_reason="stop" if ended else "length"
        )


def _is_ids(source: Sequence) -> bool:
    return bool(source) and all(type(one) is int for one in source)


def _check(*, max_tokens: int, beams: int, length_penalty: float, early: Early) -> None:
    for name, value, least in (("max_tokens", max_tokens, 0), ("beams", beams, 1)):
        if type(value) is not int or value < least:
            raise BadInput(f"must be a whole number, at least {least}, is {value!r}", field=name)
    if (
        isinstance(length_penalty, bool)
        or not isinstance(length_penalty, (int, float))
        or not abs(length_penalty) <= 100
    ):
        raise BadInput(f"must be a number from -100 to 100, is {length_penalty!r}", field="length_penalty")
    if early not in (False, True, "never"):
        raise BadInput(f'must be False, True or "never", is {early!r}', field="early")
