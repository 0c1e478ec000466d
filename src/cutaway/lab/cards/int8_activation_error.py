"""What rounding activations to int8 does to a product: foretold from the largest of a group, bounded, and in the loss.

In groups of 32, x = d code with d = max |x| / 127, so that no activation is off by more than d / 2, and a product by no
more than sum_g d_g / 2 sum_{c in g} |w_c|. In the mean square an error of s^2 / 12 (Bennett 1948) is that of
lab/cards/int4_group_error.py with 127 levels to a side; as errors do not know of the weights, a product of many columns
is off by the same share of its own deviation. One scale for a whole row follows the row's largest activation instead:
models have channels far larger than others (Dettmers et al. 2022), and all the row's small ones pay for them.
The loss is that of SmolLM2-135M over a text of this house, with its products as `times_int8` makes them.
N rows of x · R rows of w · C columns · G groups of 32 · V vocabulary.   Read next: ops/cpu/pack.py, ops/cpu/multiply.py
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from cutaway.infer.language import Language
from cutaway.infer.load import load
from cutaway.lab.card import AtLeast, AtMost, Card, Finding, Near
from cutaway.lab.cards.int4_group_error import foretold
from cutaway.lab.data_sets import shelved
from cutaway.lab.explain.table import EXPLANATIONS
from cutaway.ops.blocks.format import FORMATS
from cutaway.ops.blocks.quantise import quantise
from cutaway.ops.cpu.multiply import times_int8_readable
from cutaway.ops.cpu.pack import GROUP, Strips, rounded
from cutaway.ops.forms import NAMED, Forms
from cutaway.ops.packed import Joined, Packed

ROWS, COLUMNS, OUTPUTS = 256, 1536, 512  # 131,072 products: the mean of their errors is known to about 0.3%
OUTLIER = 50.0  # deviations of the one large channel, as large models have them
TOKENS = 512


def multiply_int8(x_NC: Tensor, packed: Packed | Joined) -> Tensor:
    """A form of `multiply` for any machine: the kernel's sibling in torch."""
    strips = packed.strips()
    assert strips is not None
    return times_int8_readable(x_NC, strips)


def products(x_NC: Tensor) -> tuple[float, float]:
    """Root mean square error of int8 products as a share of theirs, the largest error as one of its bound."""
    w = torch.randn(OUTPUTS, x_NC.shape[1], generator=torch.Generator().manual_seed(1))
    strips = Strips.of(quantise(w, FORMATS["q4_0"]), FORMATS["q4_0"])
    w_RC = strips.weights().double()
    y_NR = x_NC.double() @ w_RC.T
    off_NR = times_int8_readable(x_NC, strips).double() - y_NR
    bound_NR = rounded(x_NC).scales_NG.double() / 2 @ w_RC.abs().unflatten(1, (-1, GROUP)).sum(2).T
    return float(off_NR.norm() / y_NR.norm()), float((off_NR.abs() / bound_NR).max())


def one_scale(x_NC: Tensor) -> float:
    """Root mean square error of all but the first activation where a row has one scale, over that of groups of 32."""
    scale_N1 = x_NC.abs().amax(1, keepdim=True) / 127
    whole_NC = (x_NC / scale_N1).round() * scale_N1
    x = rounded(x_NC)
    parted_NC = (x.codes_NG * x.scales_NG[..., None]).flatten(1)
    return float((whole_NC - x_NC)[:, 1:].norm() / (parted_NC - x_NC)[:, 1:].norm())


@torch.inference_mode()
def loss(language: Language, forms: Forms, ids: list[int]) -> float:
    """Nats a token."""
    told = Language(language.module, language.tokenizer, forms=forms, source=language.source)
    logits_TV = told(torch.tensor([ids]))[0]
    return float(F.cross_entropy(logits_TV[:-1], torch.tensor(ids[1:])))


def loss_change() -> float:
    """Nats a token by which SmolLM2 reads a text otherwise with int8 activations. Raises NoData."""
    language = load(shelved("smollm2-135m"))
    assert isinstance(language, Language)
    ids = language.encode(" ".join(one.what for one in EXPLANATIONS.values()))[:TOKENS]
    exact = NAMED["exact"]
    return abs(loss(language, replace(exact, multiply=multiply_int8), ids) - loss(language, exact, ids))


def _compute() -> tuple[Finding, ...]:
    off = loss_change()
    x_NC = torch.randn(ROWS, COLUMNS, generator=torch.Generator().manual_seed(0))
    error, share = products(x_NC)
    x_NC[:, 0] = OUTLIER
    return (
        Finding(
            what="error of a product, share of its deviation",
            expected=Near(value=foretold(GROUP, 127), tolerance=0.03),
            ours=error,
        ),
        Finding(what="largest error over the bound", expected=AtMost(value=1.0), ours=share),
        Finding(
            what=f"a channel of {OUTLIER:.0f}: error of one scale a row over groups'",
            expected=AtLeast(value=5.0),
            ours=one_scale(x_NC),
        ),
        Finding(what="SmolLM2 over a text: change of its loss, nats", expected=AtMost(value=0.02), ours=off),
    )


CARD = Card(
    name="int8-activation-error",
    claim="Activations in int8, a scale for each 32, change products by half a percent and a loss hardly at all.",
    source="Bennett 1948, Spectra of quantized signals; outliers: Dettmers et al. 2022, LLM.int8() (arXiv 2208.07339)",
    computed="131,072 products of normal activations with q4_0 weights; the loss of SmolLM2-135M over 512 tokens",
    tolerance="3%: weights and activations are few, and rounding knows a little of what is rounded; bounds elsewhere",
    seconds=20,
    compute=_compute,
)
