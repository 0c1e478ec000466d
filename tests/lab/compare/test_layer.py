from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cutaway.lab.compare.alone import ask
from cutaway.lab.compare.layer import Layer, measure
from cutaway.lab.compare.mixers import KINDS, Shape, mixer
from cutaway.ops import choice
from cutaway.ops.block_sparse import attend_blocks_gathered
from cutaway.ops.forms import FAST
from cutaway.ops.tiled import attend_tiled

SHAPE = Shape(dim=64, heads=4, longest=400)


@pytest.mark.parametrize("name", KINDS)
def test_the_cache_is_as_large_as_is_told_and_a_token_behind_it_is_the_full_pass(name):
    """At a length at which prefill goes in runs of queries (ops/attend.py)."""
    torch.manual_seed(0)
    layer = Layer(mixer(name, SHAPE), SHAPE.dim, FAST)
    x_ND = torch.randn(401, SHAPE.dim)
    cache = layer.cache(400)
    with torch.inference_mode():
        layer.read(x_ND[:400], cache)
        last_1D = layer.read(x_ND[400:], cache)
        whole_ND = layer.read(x_ND, layer.cache(401))
    # Float32 sums of 401 terms in another order.
    assert torch.allclose(last_1D, whole_ND[400:], atol=1e-5)
    told = mixer(name, SHAPE).cost(SHAPE.dim, 1, 401).cache_bytes
    if all(stream.last is None for stream in layer.value.streams(SHAPE.dim)):
        assert cache.bytes == told
    else:
        assert cache.bytes >= told, "what no longer is in a window is dropped a little later"


def test_figures_are_whole():
    found = measure("gqa:2", 96, 64, 4, longest=96)
    assert set(found) == {
        *("prefill_seconds", "prefill_passes", "decode_seconds", "decode_tokens", "peak_bytes"),
    }
    assert found["prefill_seconds"] > 0 and found["decode_seconds"] > 0
    assert found["decode_tokens"] >= 1 and found["prefill_passes"] >= 1


def test_a_form_of_attention_comes_with_its_own_for_chosen_blocks(monkeypatch):
    calls = set()

    def watched(name, form):
        return lambda *given, **told: calls.add(name) or form(*given, **told)

    forms = {"form": watched("all", attend_tiled), "blocks": watched("blocks", attend_blocks_gathered)}
    monkeypatch.setattr(choice, "ATTEND", {**choice.ATTEND, "tiled": replace(choice.ATTEND["tiled"], **forms)})
    measure("nsa", 160, 64, 4, longest=160, attend="tiled")
    assert calls == {"all", "blocks"}


@pytest.mark.proof
def test_a_process_of_its_own_sees_what_attention_really_holds():
    """All scores of 8 heads at once are 8 * 1024 * 1024 * 4 bytes, and there are several tensors of them."""
    told = {"dim": 64, "heads": 8, "longest": 1024, "threads": 1, "part": "mha", "context": 1024}
    naive = ask("cutaway.lab.compare.layer", {**told, "attend": "naive"}, threads=1)
    fast = ask("cutaway.lab.compare.layer", {**told, "attend": "sdpa"}, threads=1)
    if naive["peak_bytes"] is None:
        pytest.skip("this system does not say how much memory a process has held")
    assert naive["peak_bytes"] > 2 * 8 * 1024 * 1024 * 4
    assert fast["peak_bytes"] < 8 * 1024 * 1024 * 4 / 2
