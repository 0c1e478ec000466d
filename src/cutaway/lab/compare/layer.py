"""One attention at one context: how long it takes to read so many tokens, and then one more; what memory that takes.

The layer alone, without norms and feed-forward, random weights and inputs from a seed, float32, on a CPU. Prefill: all
tokens in one pass into an empty cache, the median of as many passes as fit into a few seconds. Decode: one token behind
those, the median of many (so without what native sparse attention does where it ends a block, at one token in 16). Peak
memory: pages of the first pass beyond those of weights and inputs, the cache included.
Run as a module it does so in a process of its own.
N tokens, flat · D model dim.   Read next: lab/compare/mixers.py, lab/compare/attention.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from cutaway.base.seeds import seed_all
from cutaway.lab.compare.alone import answer
from cutaway.lab.compare.comparison import Figures
from cutaway.lab.compare.mixers import Shape, mixer
from cutaway.lab.compare.resident import Peak
from cutaway.nn.block import Mixer
from cutaway.nn.cache import ContiguousCache
from cutaway.nn.context import Context
from cutaway.ops.forms import Forms, attended

SECONDS = 3.0  # for repeating a pass
PASSES = 9  # at most
TOKENS = 64  # of decoding, at most
WARM = 16  # tokens that are read before anything is measured: libraries are loaded, kernels chosen
STEADY = 3  # tokens of decoding that are not counted


def measure(
    part: str,
    context: int,
    dim: int,
    heads: int,
    *,
    longest: int,
    seed: int = 0,
    attend: str | None = None,
    threads: int | None = None,
) -> Figures:
    """What `part` does behind `context` tokens. Seconds, bytes, and how often each was timed."""
    if threads is not None:
        torch.set_num_threads(threads)
    value = mixer(part, Shape(dim=dim, heads=heads, longest=longest))
    seed_all(seed)
    layer = Layer(value, dim, attended(attend))
    x_ND = torch.randn(context + TOKENS + STEADY, dim)
    with torch.inference_mode():
        layer.read(x_ND[: min(WARM, context)], layer.cache(context))
        peak, cache = Peak(), layer.cache(context)
        prefills = [layer.seconds(x_ND[:context], cache)]
        above = peak.above()
        while sum(prefills) < SECONDS and len(prefills) < PASSES:
            cache = layer.cache(context)
            prefills.append(layer.seconds(x_ND[:context], cache))
        decodes: list[float] = []
        for row_1D in x_ND[context:].split(1):
            decodes.append(layer.seconds(row_1D, cache))
            if sum(decodes) > SECONDS and len(decodes) > STEADY:
                break
    return {
        "prefill_seconds": statistics.median(prefills),
        "prefill_passes": len(prefills),
        "decode_seconds": statistics.median(decodes[STEADY:]),
        "decode_tokens": len(decodes) - STEADY,
        "peak_bytes": above,
    }


class Layer:
    """An attention with its weights, and what it needs to run."""

    def __init__(self, value: Mixer, dim: int, forms: Forms):
        self.value, self.dim, self.forms = value, dim, forms
        self.module: nn.Module = value.build(dim).eval()

    def cache(self, tokens: int) -> ContiguousCache:
        """An empty one, with room for so many tokens and some more."""
        return ContiguousCache((self.value.streams(self.dim),), capacity=tokens + TOKENS + STEADY)

    def read(self, x_ND: Tensor, cache: ContiguousCache) -> Tensor:
        """The layer over some more tokens of one sequence; they are kept."""
        context = Context.of((x_ND.shape[0],), cache=cache, forms=self.forms)
        y_ND, _ = self.module(x_ND, context)
        cache.advance((x_ND.shape[0],))
        return y_ND

    def seconds(self, x_ND: Tensor, cache: ContiguousCache, clock: Callable[[], float] = time.perf_counter) -> float:
        """How long that takes."""
        start = clock()
        self.read(x_ND, cache)
        return clock() - start


if __name__ == "__main__":
    answer(measure)
