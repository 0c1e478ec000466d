"""Models with plain matrices on kernels: every family, every precision, and weights that change meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tests.infer.quantising import FAMILIES
from torch import nn

import cutaway
from cutaway.base.errors import NotFound
from cutaway.infer import kernel_weights
from cutaway.infer.continuation import Continuation
from cutaway.infer.kernel_reach import listed
from cutaway.models.decoder import Decoder, DecoderModel
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.positions import Learned
from cutaway.ops.cpu.build import kernels
from cutaway.ops.forms import NAMED, READABLE
from cutaway.weights.shelf import get

# Logits of size 1 to 15 behind two or three blocks: fp32 sums in another order, a few parts in a million each.
CLOSE = {"rtol": 1e-4, "atol": 1e-4}
PROMPT = [5, 17, 3, 80, 44, 1, 9]

here = pytest.mark.skipif(kernels().library is None, reason=f"no kernels: {kernels().why}")


def plain(family: str, dtype: torch.dtype, tied: bool = True) -> DecoderModel:
    """One of the families, its weights such as `dtype` holds, in `dtype`."""
    torch.manual_seed(3)
    positions = Learned(length=128) if family == "gpt2" else None
    told = {"embedding_scale": 8.0, "softcap": 15.0} if family == "gemma" else {}
    blocks = FAMILIES[family]
    norm = RMSNorm(offset=1.0)
    spec = Decoder(vocab=96, dim=64, length=128, blocks=blocks, norm=norm, positions=positions, tied=tied, **told)
    module = spec.build().eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3 if parameter.ndim == 1 else 0.15)
    return module.to(dtype).requires_grad_(False)


def reading(module, forms, kept=torch.float32):
    return Continuation(module, forms, dtype=next(module.parameters()).dtype, device=torch.device("cpu"), kept=kept)


def close(ours, theirs, fed):
    """Logits behind the ids, and behind each of two guesses."""
    torch.testing.assert_close(ours.feed(fed), theirs.feed(fed), **CLOSE)
    torch.testing.assert_close(ours.attempt([9], [1, 2]), theirs.attempt([9], [1, 2]), **CLOSE)
    ours.back(1), theirs.back(1)


@here
@pytest.mark.parametrize("name", ["kernels", "kernels-int8"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("family", [name for name in FAMILIES if name not in ("experts", "latent")])
def test_every_family_is_what_torch_computes_in_fp32(family, dtype, name):
    """Weights of 16 bits are multiplied by fp32 activations, whatever those of packed ones are: nothing is rounded, so
    that the same module computing in fp32 is what kernels are held against."""
    module = plain(family, dtype)
    assert listed(module) == 2 * len(module.blocks)
    ours = reading(module, NAMED[name])
    assert ours.steps is not None
    theirs = reading(plain(family, dtype).float(), READABLE)
    close(ours, theirs, PROMPT)
    close(ours, theirs, [7])
    torch_runs = 1 if family == "gpt2" else 0  # learned positions
    assert [plan.names.count("torch") for plan in ours.steps.shelf.idle] == [torch_runs]


@here
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_head_of_its_own(dtype):
    close(
        reading(plain("llama", dtype, tied=False), NAMED["kernels"]),
        reading(plain("llama", dtype, False).float(), READABLE),
        [4],
    )


@here
def test_steps_of_an_optimiser_and_loaded_states_are_noticed():
    module = plain("qwen", torch.float32)
    ours, theirs = reading(module, NAMED["kernels"]), reading(module, READABLE)
    close(ours, theirs, PROMPT)
    module.requires_grad_(True)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.01)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimiser.step()
    for one in (ours, theirs):
        one._start(64)
    close(ours, theirs, PROMPT)
    with torch.no_grad():
        module.norm.weight.mul_(2.0)
    for one in (ours, theirs):
        one._start(64)
    close(ours, theirs, PROMPT)


def test_what_kernels_multiply_by():
    class Own(Linear):
        """A reader's own map."""

    assert kernel_weights.multiplies((Linear(64, 3), Linear(32, 1, bias=True)))
    assert kernel_weights.multiplies((Linear(64, 3).half(), Linear(64, 3).bfloat16()))
    for one in (Linear(48, 3), Linear(64, 3).double(), Linear(64, 3).to("meta"), Own(64, 3), nn.Linear(64, 3)):
        assert not kernel_weights.multiplies((Linear(64, 3), one))


@here
def test_what_is_of_two_precisions_is_torchs():
    module = plain("llama", torch.float32)
    module.blocks[0].mixer.query.half()
    assert reading(module, NAMED["kernels"]).steps is None
    assert reading(plain("llama", torch.float64), NAMED["kernels"], torch.float64).steps is None
    assert reading(plain("llama", torch.float32), replace(READABLE, multiply=NAMED["kernels"].multiply)).steps is None


@here
@pytest.mark.proof
def test_every_product_of_a_file_of_many_formats_is_the_kernels():
    """gemma3-270m's own file, whose matrices are in q5_0, q4_k, q6_k and q8_0: nothing is left to torch, and logits of
    size 5 are those of torch's exact products."""
    try:
        module = cutaway.load(get("gemma3-270m")).module
    except NotFound as error:
        pytest.skip(f"gemma3-270m is not here and cannot be fetched: {error}")
    assert listed(module) == 2 * len(module.blocks)
    ours, theirs = reading(module, NAMED["kernels"]), reading(module, NAMED["exact"])
    assert ours.steps is not None
    for ids in ([2, 818, 5279, 529, 7001, 563], [7], [500]):
        torch.testing.assert_close(ours.feed(ids), theirs.feed(ids), rtol=1e-4, atol=1e-3)
    assert all("torch" not in plan.names for plan in ours.steps.shelf.idle)
