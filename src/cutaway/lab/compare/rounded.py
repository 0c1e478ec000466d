"""A model with its matrices, or its keys and values, in one precision: bytes, perplexity, and tokens a second.

Perplexity is that of passages read EIGHT tokens at a time behind a cache: products of few rows go through the kernels
that write text, and keys and values come back from the cache as they were kept. Writing: one token after another
behind a prompt, by the median of their times; reading: the prompt in one pass. A name that ends with ",gptq" is rounded
by GPTQ (weights/calibration.py) on stretches of the text's beginning, none of which the passages are from.
Run as a module it does so in a process of its own.   Read next: lab/checks/perplexity.py, lab/compare/precision.py
"""

from __future__ import annotations

import math
import statistics
import time

import torch

from cutaway.base.errors import BadInput
from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.lab.anatomy import anatomy
from cutaway.lab.checks.perplexity import perplexity
from cutaway.lab.compare.alone import answer
from cutaway.lab.compare.comparison import Figures
from cutaway.lab.compare.passages import learned, passages
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.narrow_cache import narrow_streams
from cutaway.nn.quantised import QuantisedEmbedding, QuantisedLinear
from cutaway.ops.blocks.scheme import Absmax, precision_named
from cutaway.ops.forms import Forms, attended
from cutaway.weights.calibration import calibrate

EIGHT = 8
GPTQ = ",gptq"
STRETCHES, STRETCH = 16, 128  # of the text that GPTQ is told, in tokens
PROMPT, TOKENS, STEADY = 64, 48, 4  # tokens read, written, and of those the first that are not counted
READINGS = 5
BEHIND = 1024  # tokens behind which the cache's bytes are told


def measure(
    model: str,
    text: str,
    weights: str | None,
    cache: str | None,
    *,
    count: int,
    length: int,
    threads: int | None = None,
    attend: str | None = None,
) -> Figures:
    """The model of this name with `weights` and `cache` as `load` takes them (None: as they are), over `count` passages
    of `length` tokens. Raises BadInput for what is no decoder with a tokenizer."""
    if threads is not None:
        torch.set_num_threads(threads)
    language = _opened(model, text, weights, cache, attended(attend))
    assert isinstance(language.spec, Decoder) and language.tokenizer is not None
    ids_BT = passages(language.tokenizer, text, count, length)
    losses = [math.log(perplexity(language, ids_T.tolist(), EIGHT)) for ids_T in ids_BT]
    streams = narrow_streams(language.spec.streams(), language.kept)
    behind = min(BEHIND, language.spec.length)
    kept = sum(stream.bytes(behind, language.dtype) for layer in streams for stream in layer)
    root = anatomy(language.module, length=behind)
    parts = [part for part in language.module.modules() if isinstance(part, QuantisedLinear | QuantisedEmbedding)]
    return {
        "weight_bytes": root.bytes,
        "parameters": root.parameters,
        "formats": sorted({part.packed.format.name for part in parts}) or [str(language.dtype).removeprefix("torch.")],
        "cache_bytes": kept / behind,
        "perplexity": math.exp(statistics.mean(losses)),
        **_speed(language, ids_BT[0].tolist()),
    }


def scheme_named(name: str) -> Absmax | None:
    """What "int4:group=64,gptq" rounds to; None of a name without "gptq". Raises BadInput where that is no absmax."""
    if not name.endswith(GPTQ):
        return None
    scheme = precision_named(name.removesuffix(GPTQ))
    if not isinstance(scheme, Absmax):
        raise BadInput(f'"{name}": GPTQ rounds to int8 and int4', field="weights")
    return scheme


def _opened(model: str, text: str, weights: str | None, cache: str | None, forms: Forms) -> Language:
    scheme = scheme_named(weights or "")
    language = load(model, device="cpu", weights=None if scheme else weights, cache=cache, forms=forms)
    if not isinstance(language, Language) or not isinstance(language.spec, Decoder) or language.tokenizer is None:
        raise BadInput("is no decoder with a tokenizer", source=model)
    if scheme is not None:
        assert isinstance(language.module, DecoderModel)
        told = learned(text)[: 40 * STRETCHES * STRETCH]
        ids = language.tokenizer.encode(told, special=False)
        length = min(STRETCH, language.spec.length, len(ids))
        whole = ids[: len(ids) // max(length, 1) * length][: STRETCHES * length]
        for _ in calibrate(language.module, torch.tensor(whole).view(-1, max(length, 1)), scheme):
            pass
        language = Language(language.module, language.tokenizer, source=model, kept=language.kept, forms=forms)
    language.check_weights()
    return language


def _speed(language: Language, ids: list[int]) -> Figures:
    """Tokens a second, reading a prompt and writing behind it."""
    prompt, reads = (ids * (1 + PROMPT // len(ids)))[:PROMPT], []
    held, logits_V = language.continuation(), torch.empty(0)
    for _ in range(READINGS):
        held = language.continuation()
        fed = held.rewind(prompt, room=PROMPT + TOKENS + STEADY)
        start = time.perf_counter()
        logits_V = held.feed(fed)
        reads.append(time.perf_counter() - start)
    writes = []
    for _ in range(TOKENS + STEADY):
        start = time.perf_counter()
        logits_V = held.feed([int(logits_V.argmax())])
        writes.append(time.perf_counter() - start)
    return {"read_per_second": PROMPT / min(reads), "write_per_second": 1 / statistics.median(writes[STEADY:])}


if __name__ == "__main__":
    answer(measure)
