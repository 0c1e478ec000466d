"""Two small models trained on short texts in about a minute, to be read far beyond: one with RoPE, one with ALiBi.

Half of each step are rows of a text; half are rows in which a number is told, and asked for at the end, as in
lab/compare/haystack.py: what a model never did in training it does not do beyond it either. There only the number's
later mentions count.   loss = mean over the text's tokens + mean over the numbers' / 2
B rows · T position · V vocabulary.   Read next: lab/compare/haystack.py, recipes/nano.py
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor

from cutaway.base.paths import atomic, home
from cutaway.base.progress import track
from cutaway.lab.compare.haystack import questions
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.alibi import Alibi
from cutaway.nn.attention.grouped import GroupedQuery
from cutaway.nn.context import Context
from cutaway.recipes.nano import small
from cutaway.text.bpe import BytePair
from cutaway.text.tokenizer import Tokenizer
from cutaway.train.optimisers.adamw import AdamW
from cutaway.train.optimisers.muon import Muon
from cutaway.train.schedules import Linear, Scheduled

LENGTH, ROWS, STEPS, VOCAB = 128, 16, 300, 512
READ = 1_000_000  # characters of the text that they learn from
WEIGHTS = "model.safetensors"


def _rotating(vocab: int) -> Decoder:
    return small(vocab=vocab, layers=3, heads=4, dim=96, hidden=256, length=LENGTH)


def _sloped(vocab: int) -> Decoder:
    spec = _rotating(vocab)
    mixer = spec.blocks[0].mixer
    assert isinstance(mixer, GroupedQuery)
    return replace(spec, blocks=(replace(spec.blocks[0], mixer=replace(mixer, rope=None, alibi=Alibi())),) * 3)


# By the names that stand where a model is asked for.
SHORT: dict[str, Callable[[int], Decoder]] = {"small": _rotating, "small-alibi": _sloped}


def folder_of(name: str, text: str, steps: int, seed: int) -> Path:
    """Where it is kept, so that it is trained once."""
    mark = hashlib.sha256(text[:READ].encode("utf-8")).hexdigest()[:12]
    return home() / "short" / f"{name}-{steps}-{seed}-{mark}"


def short(name: str, text: str, *, steps: int = STEPS, seed: int = 0) -> tuple[DecoderModel, Tokenizer]:
    """The model called `name`, trained on the beginning of `text` unless it is there already."""
    folder = folder_of(name, text, steps, seed)
    if not (folder / WEIGHTS).is_file():
        tokenizer = BytePair.train([text[:READ]], vocab=VOCAB).fast()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = SHORT[name](tokenizer.vocab).build()
            learn(module, tokenizer, text[:READ], steps=steps, seed=seed, name=name)
        with atomic(folder) as partial:
            partial.mkdir()
            tokenizer.save(partial)
            save_file(dict(module.state_dict()), partial / WEIGHTS)
    tokenizer = Tokenizer.from_folder(folder)
    module = SHORT[name](tokenizer.vocab).build()
    module.load_state_dict(load_file(folder / WEIGHTS))
    return module.eval(), tokenizer


def learn(module: DecoderModel, tokenizer: Tokenizer, text: str, *, steps: int, seed: int, name: str) -> list[float]:
    """Trains it; returns the loss of each step."""
    draw, length = random.Random(seed), module.spec.length
    ids_N = torch.tensor(tokenizer.encode(text, special=False))
    moved = Muon(rate=0.02, rest=AdamW(rate=0.005, betas=(0.9, 0.99), decay=0.0)).build(module)
    optimiser = Scheduled(moved, Linear(steps=steps, warmup=max(1, min(50, steps // 4))))
    losses = []
    for step in track(range(steps), f"training {name}"):
        plain_BT = torch.stack([_row(ids_N, length, draw) for _ in range(ROWS)])
        asked_BT, counted_BT = _asked(ids_N, tokenizer, length, draw, seed * steps + step)
        ids_BT = torch.cat([plain_BT, asked_BT])
        logits_NV, _ = module(ids_BT.flatten(), Context.of((length,) * len(ids_BT)))
        said_BTV = logits_NV.unflatten(0, tuple(ids_BT.shape))[:, :-1]
        loss_BT = F.cross_entropy(said_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
        loss = loss_BT[:ROWS].mean() + loss_BT[ROWS:][counted_BT[:, 1:]].mean() / 2
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    return losses


def _row(ids_N: Tensor, length: int, draw: random.Random) -> Tensor:
    start = draw.randrange(len(ids_N) - length)
    return ids_N[start : start + length]


def _asked(ids_N: Tensor, tokenizer: Tokenizer, length: int, draw: random.Random, seed: int) -> tuple[Tensor, Tensor]:
    """Rows (B, T) with a number told somewhere and asked for at the end, and which tokens are its later mentions."""
    (question,) = questions(tokenizer, ROWS, (length,), (draw.random(),), seed)
    # Each row of a step tells it at a place of its own, as the texts to be read will.
    rows, counted = [], []
    for told_Q, asked_Q in zip(question.told_BQ, question.asked_BQ, strict=True):
        text_T, place = _row(ids_N, length, draw)[: question.body], draw.randint(0, question.body)
        rows.append(torch.cat([text_T[:place], told_Q, text_T[place:], asked_Q]))
        number_Q = asked_Q[-question.answer :]
        again = (told_Q.unfold(0, question.answer, 1) == number_Q).all(1).nonzero()[-1].item()
        counted_T = torch.zeros(length, dtype=torch.bool)
        counted_T[place + again : place + again + question.answer] = True
        counted_T[-question.answer :] = True
        counted.append(counted_T)
    return torch.stack(rows), torch.stack(counted)
