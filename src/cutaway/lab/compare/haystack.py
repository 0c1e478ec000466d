"""How well a model reads at each position of a long text, and whether it finds a number that was told far back.

Losses: -log p(x_t | x_<t), for each t. Passkey: Mohtashami and Jaggi 2023 (arXiv 2305.16300), section 4.2: a number is
told somewhere in a long text, at whose end it is asked for; found is what is greedily answered, whole.
Departures: the text around is real, not one sentence again and again, so that one reading of it gives the losses and
also stands before every number told. It is read in parts behind a cache, as a model that writes would read. The answer
is not written but judged: it is found where at each of its tokens, those before it given, the likeliest is the right
one, which is the same.   B passages · T position · Q token of a question · D model dim · V vocabulary
Read next: lab/compare/stretched.py, lab/compare/length.py
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.base.errors import BadInput
from cutaway.models.decoder import DecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, Forms
from cutaway.text.tokenizer import Tokenizer

ROWS = 512  # tokens of a pass, of all passages together
TOLD = ("\nThe pass key is <", ">. Remember it: <", "> is the pass key.\n")
ASKED = "\nWhat is the pass key? The pass key is <"


@dataclass(frozen=True, kw_only=True, eq=False)
class Question:
    """One number for each passage: told behind `place` tokens of it by `told_BQ`, asked for by `asked_BQ`, whose last
    `answer` tokens are the number itself. With all of them and `body` tokens of the passage, the text is `length`."""

    length: int
    depth: float
    place: int
    body: int
    told_BQ: Tensor
    asked_BQ: Tensor
    answer: int


def questions(
    tokenizer: Tokenizer, passages: int, lengths: Sequence[int], depths: Sequence[float], seed: int
) -> list[Question]:
    """One for each length and depth (0: the text's beginning, 1: its end). Raises BadInput for a length without room
    for it, naming it."""
    draw, found = random.Random(seed), []
    for length in lengths:
        for depth in depths:
            keys = [_number(tokenizer, draw) for _ in range(passages)]
            told_BQ = torch.tensor([_pieces(tokenizer, TOLD, key) for key in keys])
            asked_BQ = torch.tensor([_ids(tokenizer, ASKED) + key for key in keys])
            body = length - told_BQ.shape[1] - asked_BQ.shape[1]
            if body < 1:
                said = f"{length} tokens have no room for a number told and asked for, which take {length - body}"
                raise BadInput(said, field="lengths")
            place = round(depth * body)
            told = {"told_BQ": told_BQ, "asked_BQ": asked_BQ, "answer": len(keys[0])}
            found.append(Question(length=length, depth=depth, place=place, body=body, **told))
    return found


def _number(tokenizer: Tokenizer, draw: random.Random) -> list[int]:
    """Five digits, in as many tokens as most numbers have (those of one length lie side by side)."""
    usual = len(_ids(tokenizer, "48213"))
    while True:
        ids = _ids(tokenizer, str(draw.randint(10_000, 99_999)))
        if len(ids) == usual:
            return ids


def _pieces(tokenizer: Tokenizer, texts: Sequence[str], key: Sequence[int]) -> list[int]:
    """Texts with the number between them."""
    ids = _ids(tokenizer, texts[0])
    for text in texts[1:]:
        ids += [*key, *_ids(tokenizer, text)]
    return ids


def _ids(tokenizer: Tokenizer, text: str) -> list[int]:
    return tokenizer.encode(text, special=False)


class Reader:
    """Passages of one length, read a part at a time behind a cache. `prompt`: the length of the text, which dynamic NTK
    fixes its base at."""

    def __init__(
        self,
        module: DecoderModel,
        *,
        passages: int,
        prompt: int,
        forms: Forms = FAST,
        formats: frozenset[str] = frozenset(),
    ):
        weight = next(one for one in module.parameters() if one.is_floating_point())
        self.module, self.forms, self.formats, self.device = module, forms, formats, weight.device
        self.passages, self.prompt = passages, prompt
        self.cache = ContiguousCache(
            module.spec.streams(), sequences=passages, dtype=weight.dtype, device=self.device, capacity=prompt
        )

    def parts(self, ids_BT: Tensor) -> Iterator[tuple[Tensor, Context]]:
        """Takes in the tokens; yields the residual (B, t, D) of each part, and what it was read by."""
        step = max(1, ROWS // self.passages)
        for ids_Bt in ids_BT.to(self.device).split(step, dim=1):
            count = ids_Bt.shape[1]
            context = Context.of(
                (count,) * self.passages,
                cache=self.cache,
                device=self.device,
                forms=self.forms,
                prompts=(self.prompt,) * self.passages,
                narrow=self.forms.narrow(ids_Bt.numel(), self.formats),
            )
            x_ND, _ = self.module.hidden(ids_Bt.flatten(), context)
            yield x_ND.unflatten(0, (self.passages, count)), context

    def losses(self, ids_BT: Tensor, next_B: Tensor | None) -> Tensor:
        """In nats, of the token behind each, (B, T); `next_B`: those behind the last ones, None where none are: then
        (B, T - 1)."""
        behind_BT = ids_BT[:, 1:] if next_B is None else torch.cat([ids_BT[:, 1:], next_B[:, None]], 1)
        found, place = [], 0
        for x_BtD, context in self.parts(ids_BT):
            wanted_Bt = behind_BT[:, place : place + x_BtD.shape[1]].to(self.device)
            place += x_BtD.shape[1]
            x_BtD = x_BtD[:, : wanted_Bt.shape[1]]
            logits_NV = self.module.logits(x_BtD.flatten(0, 1), context).float()
            found.append(F.cross_entropy(logits_NV, wanted_Bt.flatten(), reduction="none").view(wanted_Bt.shape))
        return torch.cat(found, 1).cpu()

    def last(self, ids_BT: Tensor, rows: int) -> Tensor:
        """Takes in the tokens; the logits (B, rows, V) behind the last `rows` of them."""
        kept, told = None, None
        for x_BtD, context in self.parts(ids_BT):
            kept, told = (x_BtD if kept is None else torch.cat([kept, x_BtD], 1))[:, -rows:], context
        assert kept is not None and told is not None
        return self.module.logits(kept.flatten(0, 1), told).float().unflatten(0, (self.passages, -1))

    def marks(self) -> list[object]:
        """Where every passage stands."""
        return [self.cache.snapshot(passage) for passage in range(self.passages)]

    def back(self, marks: Sequence[object]) -> None:
        """Every passage stands where it stood."""
        for passage, mark in enumerate(marks):
            self.cache.restore(passage, mark)  # type: ignore[arg-type]


@torch.inference_mode()
def read(
    reader: Reader, ids_BT: Tensor, asked: Sequence[Question]
) -> tuple[Tensor, list[tuple[Question, float, float]]]:
    """The losses (B, T - 1) of passages (B, T), and of each question the share of passages in which its number was
    found, and the mean loss of the number's tokens in nats."""
    places = sorted(({question.place for question in asked} | {ids_BT.shape[1]}) - {0})
    marks = {0: reader.marks()}
    losses, start = [], 0
    for end in places:
        next_B = ids_BT[:, end] if end < ids_BT.shape[1] else None
        losses.append(reader.losses(ids_BT[:, start:end], next_B))
        marks[end], start = reader.marks(), end
    answers = []
    # From the last place to the first: what is cut off is needed no more.
    for question in sorted(asked, key=lambda one: -one.place):
        reader.back(marks[question.place])
        answers.append((question, *_answered(reader, ids_BT, question)))
    return torch.cat(losses, 1), answers


def _answered(reader: Reader, ids_BT: Tensor, question: Question) -> tuple[float, float]:
    between_BT = ids_BT[:, question.place : question.body]
    # The number's last token is looked for, not read.
    text_BT = torch.cat([question.told_BQ, between_BT, question.asked_BQ[:, :-1]], 1)
    logits_BQV = reader.last(text_BT, question.answer)
    number_BQ = question.asked_BQ[:, -question.answer :].to(logits_BQV.device)
    found_B = (logits_BQV.argmax(-1) == number_BQ).all(1)
    nats = F.cross_entropy(logits_BQV.flatten(0, 1), number_BQ.flatten())
    return float(found_B.float().mean()), float(nats)
