"""Twins: tiny models of transformers with random weights, saved by it, read by us, and asked the same questions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import FAST, READABLE, Forms
from cutaway.weights.huggingface import read_folder
from cutaway.weights.saving import write_folder

transformers.utils.logging.disable_progress_bar()

# Both work in float32 on logits of about 1 to 10; they add up in different orders, in three layers of width 64 or less,
# and differ by a few units of 1e-6. A wrong option moves logits by 1e-2 and more.
CLOSE = {"atol": 2e-5, "rtol": 2e-5}
VOCAB = 67
LENGTHS = (7, 1, 13, 4)
CHUNKS = ((3, 1, 5, 2), (2, 0, 4, 1), (1, 0, 1, 1), (1, 0, 1, 0), (0, 0, 2, 0))


@dataclass
class Twin:
    """One model, theirs and ours. `lengths`: those of the sequences it is asked about."""

    theirs: Any
    ours: DecoderModel
    spec: Decoder
    folder: Path
    sequences: list[Tensor]

    def expected(self) -> Tensor:
        """Their logits (N, V) of all sequences, each passed alone: nothing is padded.

        Shortest first: dynamic NTK remembers the longest text it has met.
        """
        found: dict[int, Tensor] = {}
        with torch.no_grad():
            for index in sorted(range(len(self.sequences)), key=lambda one: len(self.sequences[one])):
                found[index] = self.theirs(self.sequences[index][None]).logits[0]
        return torch.cat([found[index] for index in range(len(self.sequences))])

    def full(self, forms: Forms = FAST) -> Tensor:
        """Our logits (N, V), all sequences in one ragged pass."""
        lengths = tuple(len(one) for one in self.sequences)
        with torch.no_grad():
            return self.ours(torch.cat(self.sequences), Context.of(lengths, forms=forms))[0]

    def cached(self) -> Tensor:
        """The same, taken in piece by piece through one cache."""
        cache = ContiguousCache(self.spec.streams(), sequences=len(self.sequences), capacity=4)
        found: list[list[Tensor]] = [[] for _ in self.sequences]
        with torch.no_grad():
            for counts in CHUNKS:
                at = cache.lengths
                ids = [one[old : old + new] for one, old, new in zip(self.sequences, at, counts, strict=True)]
                context = Context.of(counts, cache=cache, prompts=tuple(len(one) for one in self.sequences))
                logits = self.ours(torch.cat(ids), context)[0]
                for parts, part in zip(found, logits.split(counts), strict=True):
                    parts.append(part)
        assert cache.lengths == tuple(len(one) for one in self.sequences)
        return torch.cat([part for parts in found for part in parts])

    def greedy(self, prompt: Tensor, tokens: int) -> list[int]:
        """The likeliest continuation through our cache."""
        cache, ids, told = ContiguousCache(self.spec.streams()), prompt, (len(prompt),)
        new: list[int] = []
        with torch.no_grad():
            for _ in range(tokens):
                logits, _ = self.ours(ids, Context.of((len(ids),), cache=cache, prompts=told))
                new.append(int(logits[-1].argmax()))
                ids = torch.tensor(new[-1:])
        return new

    def their_greedy(self, prompt: Tensor, tokens: int) -> list[int]:
        self.theirs.generation_config.eos_token_id = None
        made = self.theirs.generate(
            prompt[None], attention_mask=torch.ones_like(prompt[None]), max_new_tokens=tokens, do_sample=False
        )
        return made[0, len(prompt) :].tolist()


def randomise(model: torch.nn.Module) -> None:
    """Numbers large enough that every part shows in the logits, norms and biases included."""
    for name, parameter in model.named_parameters():
        noise = torch.randn_like(parameter)
        if parameter.ndim >= 2:  # three of a stack of experts
            parameter.data = noise * 1.5 / min(parameter.shape[-2:]) ** 0.5
        else:
            parameter.data = 0.3 * noise + (0.0 if name.endswith("bias") else parameter.data)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):  # the bias of DeepSeek's routers, which starts at zero
            buffer.normal_(std=0.3)


@pytest.fixture
def make_twin(tmp_path: Path) -> Callable[..., Twin]:
    """A twin of a transformers configuration; the seed is fixed, so that a failure repeats."""
    torch.set_num_threads(1)

    def make(config: Any, **saving: Any) -> Twin:
        torch.manual_seed(5)
        theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
        randomise(theirs)
        theirs.save_pretrained(tmp_path / "theirs", **saving)
        ours, spec = read_folder(tmp_path / "theirs", device="cpu")
        sequences = [torch.randint(0, VOCAB, (length,)) for length in LENGTHS]
        return Twin(theirs, ours, spec, tmp_path, sequences)

    return make


@pytest.fixture
def check_twin() -> Callable[..., None]:
    """All that a twin must agree in. `steps`: tokens of the greedy continuation; `close`: what both may be apart."""

    def check(twin: Twin, steps: int = 10, close: dict[str, float] = CLOSE) -> None:
        expected = twin.expected()
        assert expected.std() > 0.3, "logits this flat would hide mistakes"
        torch.testing.assert_close(twin.full(), expected, **close)
        torch.testing.assert_close(twin.full(READABLE), expected, **close)
        torch.testing.assert_close(twin.cached(), twin.full(), **close)
        if steps:
            prompt = twin.sequences[0]
            assert twin.greedy(prompt, steps) == twin.their_greedy(prompt, steps)
        check_saving(twin, expected, close)
        check_meta(twin)

    return check


def check_saving(twin: Twin, expected: Tensor, close: dict[str, float]) -> None:
    """What we write is read by us as the same value, and by transformers as the same model."""
    write_folder(twin.ours, twin.spec, twin.folder / "ours")
    again, spec = read_folder(twin.folder / "ours", device="cpu")
    assert spec == twin.spec
    assert all(torch.equal(one, other) for one, other in zip(again.parameters(), twin.ours.parameters(), strict=True))
    theirs, told = transformers.AutoModelForCausalLM.from_pretrained(
        twin.folder / "ours", attn_implementation="eager", output_loading_info=True
    )
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    back = Twin(theirs.eval(), again, spec, twin.folder, twin.sequences).expected()
    held, was = theirs.state_dict(), twin.theirs.state_dict()
    assert held.keys() == was.keys() and all(torch.equal(held[name], was[name]) for name in was)
    # The numbers are bit-equal, but they lie elsewhere in memory, and products then add up in another order.
    torch.testing.assert_close(back, expected, **close)


def check_meta(twin: Twin) -> None:
    """The model runs where there is no memory: nothing makes a tensor on the CPU by itself."""
    module, _ = read_folder(twin.folder / "theirs", device="meta")
    cache = ContiguousCache(twin.spec.streams(), sequences=2, device="meta")
    for lengths in ((5, 2), (1, 1)):
        ids = torch.zeros(sum(lengths), dtype=torch.long, device="meta")
        context = Context.of(lengths, cache=cache, device="meta", prompts=(5, 2))
        assert module(ids, context)[0].shape == (sum(lengths), VOCAB)
