"""A language model as its user meets it: text in, text out, or ids in, logits out. An encoder turns texts to vectors.

B batch · T position · V vocabulary.   Read next: infer/continuation.py, infer/sampler.py, infer/embedding.py
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from cutaway.base.errors import BadInput, CutawayError
from cutaway.base.names import did_you_mean
from cutaway.infer.acceptance import Choosing, Sampler
from cutaway.infer.answer import Answer, FinishReason, Piece, StopText
from cutaway.infer.constrain import Constraint, Matcher
from cutaway.infer.continuation import Continuation
from cutaway.infer.decoding import Decoding
from cutaway.infer.early_exit import Confident, Leaving
from cutaway.infer.embedding import Pooling, embed
from cutaway.infer.prompted import Prompted
from cutaway.infer.proposers import Proposer
from cutaway.infer.sampler import choose
from cutaway.infer.searches import Search
from cutaway.infer.searching import searched
from cutaway.infer.speculate import Speculation, written
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.models.encoder import Encoder, EncoderModel
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.weights.parameters import refuse_unsound

if TYPE_CHECKING:
    from cutaway.text.tokenizer import Tokenizer

MUTE = "is an encoder: it turns texts to vectors (embed), it writes none"

Prompt = str | Sequence[dict[str, Any]] | Sequence[int]


class Language:
    """A model with its tokenizer: a decoder speaks, an encoder embeds. `source` is where it came from, for messages;
    `pooling` how an encoder makes one vector of a text (None: the mean, as a unit vector); `sampler` chooses tokens;
    `kept`: what its cache holds, such as torch.int8 (None: what it computes in)."""

    def __init__(
        self,
        module: DecoderModel | EncoderModel,
        tokenizer: Tokenizer | None = None,
        *,
        forms: Forms = FAST,
        source: str | None = None,
        pooling: Pooling | None = None,
        sampler: Sampler = choose,
        kept: torch.dtype | None = None,
    ):
        self.module = module.eval()
        self.kept = kept
        self.tokenizer = tokenizer
        self.forms = forms
        self.source = source
        self.pooling = pooling or Pooling()
        self.sampler = sampler
        place = next(parameter for parameter in module.parameters() if parameter.is_floating_point())
        self.dtype, self.device = place.dtype, place.device
        self._sound = False  # whether the weights were looked through

    @property
    def spec(self) -> Decoder | Encoder:
        return self.module.spec

    @property
    def speaks(self) -> bool:
        """Whether it continues a text: what generate, chat and logits ask for."""
        return isinstance(self.module, DecoderModel)

    def __repr__(self) -> str:
        return f"Language({self.source or 'in memory'}, {len(self.spec.blocks)} blocks of dim {self.spec.dim})"

    def __call__(self, ids_BT: Tensor) -> Tensor:
        """ids (B, T) -> logits (B, T, V). Gradients flow as torch's present mode says.

        Of an encoder: what its head says, hidden states (B, T, D) without one, classes (B, C) of a classifier.
        """
        if ids_BT.ndim != 2:
            raise BadInput(f"must be (batch, position), has shape {tuple(ids_BT.shape)}", field="ids_BT")
        self.check_weights()
        lengths = (ids_BT.shape[1],) * ids_BT.shape[0]
        causal = not isinstance(self.module, EncoderModel)
        context = Context.of(lengths, device=self.device, forms=self.forms, causal=causal)
        logits_NV, _ = self.module(ids_BT.flatten().to(self.device), context)
        return logits_NV if logits_NV.shape[0] != ids_BT.numel() else logits_NV.unflatten(0, tuple(ids_BT.shape))

    def encode(self, prompt: Prompt) -> list[int]:
        """The ids of a prompt: a str is raw text, a list of dicts a chat in the model's own template, ints are ids."""
        if not isinstance(prompt, Sequence) or isinstance(prompt, (bytes, bytearray)):
            raise BadInput(f"must be a text, messages or token ids, is a {type(prompt).__name__}", field="prompt")
        kinds = {str} if isinstance(prompt, str) else {type(item) for item in prompt}
        if not (isinstance(prompt, str) or kinds <= {int} or kinds == {dict}):
            said = " and ".join(sorted(kind.__name__ for kind in kinds))
            raise BadInput(f"must be a text, messages (dicts) or token ids (ints), is a list of {said}", field="prompt")
        if kinds <= {int}:
            ids = [id for id in prompt if isinstance(id, int)]
        elif self.tokenizer is None:
            raise BadInput("this model came without a tokenizer: give token ids", source=self.source, field="prompt")
        elif isinstance(prompt, str):
            ids = self.tokenizer.encode(prompt)
        else:
            ids = self.tokenizer.chat([message for message in prompt if isinstance(message, dict)])
        wrong = next((id for id in ids if not 0 <= id < self.spec.vocab), None)
        if wrong is not None:
            raise BadInput(f"token id {wrong} is outside the vocabulary of {self.spec.vocab}", field="prompt")
        if not ids:
            if self.tokenizer is None or self.tokenizer.bos_id is None:
                raise BadInput("the prompt is empty and the model has no beginning-of-text token", field="prompt")
            ids = [self.tokenizer.bos_id]
        if len(ids) > self.spec.length:
            raise BadInput(f"the prompt has {len(ids)} tokens, the model's context {self.spec.length}", field="prompt")
        return ids

    def continuation(self, exits: Confident | None = None) -> Continuation:
        """A cache to hand to several `stream` calls: what a prompt shares with the one before is not read again.
        `exits`: tokens may leave the blocks early, where the model is sure of the next."""
        module = self._decoder()
        self._refuse_meta()
        self.check_weights()
        told: dict[str, Any] = {"dtype": self.dtype, "device": self.device, "kept": self.kept}
        return Leaving(module, self.forms, exits, **told) if exits else Continuation(module, self.forms, **told)

    def generate(
        self,
        prompt: Prompt,
        *,
        held: Continuation | None = None,
        proposer: Proposer | None = None,
        constraint: Constraint | None = None,
        **options: Any,
    ) -> Answer:
        """The whole answer. `options` are the fields of `Decoding`: max_tokens, temperature (0), top_k, top_p, seed,
        stop and more. `proposer`: who guesses at several tokens at a time (infer/proposers.py); the answer is drawn as
        without. `constraint`: what the answer has to be (infer/constrain.py). Raises BadInput for an impossible prompt,
        option or constraint, Stuck where rules and constraint leave no token."""
        pieces = list(self.stream(prompt, held=held, proposer=proposer, constraint=constraint, **options))
        return Answer(
            text="".join(piece.text for piece in pieces),
            tokens=tuple(piece.token for piece in pieces),
            logprobs=tuple(piece.logprob for piece in pieces),
            finish_reason=(pieces[-1].finish_reason if pieces else None) or "length",
            speculated=pieces[-1].speculated if pieces else None,
        )

    def stream(
        self,
        prompt: Prompt,
        *,
        held: Continuation | None = None,
        proposer: Proposer | None = None,
        constraint: Constraint | None = None,
        **options: Any,
    ) -> Iterator[Piece]:
        """The answer piece by piece, one a token. Arguments as `generate`; they are checked before the first piece."""
        self._decoder()
        decoding = _decoding(options)
        ids = self.encode(prompt)
        speculation = Speculation.of(proposer, self) if proposer else None
        matcher = None
        if constraint is not None:
            constraint.agrees(decoding)
            matcher = constraint.begin(self.tokenizer)
        return self._stream(ids, decoding, held or self.continuation(), speculation, matcher)

    def search(self, prompt: Prompt, how: Search, **options: Any) -> list[Answer]:
        """The answers that `how` finds (BeamSearch, ContrastiveSearch, BestOf), best first. `options` as `generate`'s;
        raises BadInput for one that the search has no use for."""
        decoding, module = _decoding(options), self._decoder()
        ids = self.encode(prompt)
        self._refuse_meta()
        self.check_weights()
        texts = Prompted(module, self.forms, dtype=self.dtype, device=self.device)
        return searched(self, texts, ids, how, decoding)

    def embed(self, texts: Sequence[str], *, pooling: str | None = None) -> Tensor:
        """One vector for each text, (number of texts, D), float32, on the CPU, whatever stands beside it in the list.

        `pooling`: "mean", "cls", "max" or "pooler" in the place of the model's own. What is longer than the model
        takes is cut. Raises BadInput for what is no list of texts, CutawayError where the model is no encoder.
        """
        if not isinstance(self.module, EncoderModel):
            raise CutawayError("a decoder has no text embedding of its own: embed with an encoder")
        if self.tokenizer is None:
            raise BadInput("this model came without a tokenizer: texts cannot be read", source=self.source)
        self._refuse_meta()
        self.check_weights()
        chosen = self.pooling if pooling is None else replace(self.pooling, by=pooling)
        return embed(self.module, self.tokenizer, texts, chosen, forms=self.forms)

    def _decoder(self) -> DecoderModel:
        if not isinstance(self.module, DecoderModel):
            raise BadInput(MUTE, source=self.source)
        return self.module

    def _refuse_meta(self) -> None:
        if self.device.type == "meta":
            raise BadInput("a model on the meta device has shapes and no numbers", source=self.source, field="device")

    def _stream(
        self,
        ids: list[int],
        decoding: Decoding,
        held: Continuation,
        speculation: Speculation | None,
        matcher: Matcher | None,
    ) -> Iterator[Piece]:
        # The last token is never fed, so a prompt that fills the context still gets one token.
        limit = min(decoding.max_tokens, self.spec.length - len(ids) + 1)
        if limit <= 0:
            return
        ends = self.tokenizer.eos_ids if self.tokenizer else frozenset()
        text = self.tokenizer.detokenizer() if self.tokenizer else None
        stops, draw = StopText(decoding.stop), random.Random(decoding.seed)
        choosing = Choosing(
            decoding=decoding, draw=draw, prompt=len(ids), ends=ends, sampler=self.sampler, matcher=matcher
        )
        tokens = written(held, ids, choosing, limit=limit, sound=self._refuse_nan, speculation=speculation)
        for count, (token, logprob) in enumerate(tokens, 1):
            finish: FinishReason | None = "stop" if token in ends or (matcher and matcher.done) else None
            new = stops.push(text.push(token)) if text and token not in ends else ""
            finish = "stop" if stops.hit else finish or ("length" if count == limit else None)
            if finish and text and not stops.hit:
                # An answer cut inside a character leaves bytes that are none: half a character is never shown.
                new += stops.push(text.flush().rstrip("\ufffd")) + stops.flush()
            told = speculation.told if finish and speculation else None
            yield Piece(text=new, token=token, logprob=logprob, finish_reason=finish, speculated=told)
            if finish:
                return

    def _refuse_nan(self, logits_XV: Tensor) -> None:
        least, most = torch.aminmax(logits_XV)  # NaN is both; a look at all of them would take ten times as long
        if not (math.isfinite(least) and math.isfinite(most)):
            self._sound = False  # they may have been changed since
            self.check_weights()
            said = "the logits are not finite (NaN or infinite), although all weights are"
            raise BadInput(f"{said}: too large for {self.dtype}?", source=self.source, field="logits")

    def check_weights(self) -> None:
        """Looks through the weights once; raises BadInput where they are NaN or infinite.

        A look at the logits is not enough: fused attention hides NaN from them, as it takes a row of scores that are
        all NaN for one that sees nothing.
        """
        if self._sound or self.device.type == "meta":
            return
        refuse_unsound(self.module, self.source)
        self._sound = True


def _decoding(options: dict[str, Any]) -> Decoding:
    for name in options:
        if name not in Decoding.__dataclass_fields__:
            raise BadInput(f"is no option{did_you_mean(name, Decoding.__dataclass_fields__)}", field=name)
    return Decoding(**options)
