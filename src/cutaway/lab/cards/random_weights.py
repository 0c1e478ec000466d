"""A decoder with random weights in float64, for cards about what does not depend on what it says.

Read next: lab/cards/kv_cache_speedup.py, lab/cards/prefix_sharing.py
"""

from __future__ import annotations

import torch

from cutaway.models.decoder import Decoder, DecoderModel


def drawn(spec: Decoder, deviation: float) -> DecoderModel:
    """The same each time. `deviation` is that of all matrices: large enough, texts differ. In float64 no near tie tells
    two orders of a sum apart."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = spec.build().double().eval()
        for parameter in module.parameters():
            if parameter.ndim > 1:
                torch.nn.init.normal_(parameter, std=deviation)
        return module
