"""Parts by other hands: whole functions in styles of their own, right and wrong, unlike those of `attempts`."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

# Rotary positions. cos, sin (N, 1, W); the sine carries its sign, minus for the first of each pair.


def by_swapping(x, cos, sin, interleaved=False):
    """With the table's own sign: x cos + swap(x) sin."""
    width = cos.shape[-1]
    turn, rest = x[..., :width], x[..., width:]
    swapped = turn.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else turn.roll(width // 2, -1)
    return torch.cat((turn * cos + swapped * sin, rest), -1)


def by_matrix(x, cos, sin, interleaved=False):
    """A rotation matrix for every token."""
    width = cos.shape[-1]
    other = torch.arange(width) ^ 1 if interleaved else (torch.arange(width) + width // 2) % width
    turn = torch.diag_embed(cos[:, 0]) + torch.diag_embed(sin[:, 0]) @ torch.eye(width, dtype=x.dtype)[other]
    return torch.cat((torch.einsum("nij,nhj->nhi", turn, x[..., :width]), x[..., width:]), -1)


def in_wider_numbers(x, cos, sin, interleaved=False):
    return by_swapping(x.double(), cos.double(), sin.double(), interleaved).to(x.dtype)


def rotate_half(x):
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def as_others_do(x, cos, sin, interleaved=False):
    """The usual rotate_half, which brings a minus of its own."""
    width = cos.shape[-1]
    if interleaved:
        return by_swapping(x, cos, sin, True)
    return torch.cat((x[..., :width] * cos + rotate_half(x[..., :width]) * sin, x[..., width:]), -1)


def mixed_layout(x, cos, sin, interleaved=False):
    """Neighbours are turned, and then laid side by side as halves."""
    if not interleaved:
        return by_swapping(x, cos, sin)
    width = cos.shape[-1]
    got = by_swapping(x, cos, sin, True)[..., :width]
    return torch.cat((got[..., 0::2], got[..., 1::2], x[..., width:]), -1)


def whole_head(x, cos, sin, interleaved=False):
    """Pairs over the whole head, whatever the table's width."""
    more = x.shape[-1] - cos.shape[-1]
    return by_swapping(x, F.pad(cos, (0, more), value=1.0), F.pad(sin, (0, more)), interleaved)


def by_heads(x, cos, sin, interleaved=False):
    """The table's rows taken for heads."""
    many = x.shape[1]
    return by_swapping(
        x,
        cos[:1].transpose(0, 1) if len(cos) < many else cos[:many].transpose(0, 1),
        sin[:1] if len(sin) < many else sin[:many].transpose(0, 1),
        interleaved,
    )


def one_angle(x, cos, sin, interleaved=False):
    if interleaved:
        cos, sin = cos[..., :2].repeat(1, 1, cos.shape[-1] // 2), sin[..., :2].repeat(1, 1, cos.shape[-1] // 2)
    else:
        half = cos.shape[-1] // 2
        cos, sin = (
            cos[..., :1].expand_as(cos),
            torch.cat([sin[..., i : i + 1].expand(-1, 1, half) for i in (0, half)], -1),
        )
    return by_swapping(x, cos, sin, interleaved)


def neighbour_row(x, cos, sin, interleaved=False):
    return by_swapping(x, cos.roll(1, 0), sin.roll(1, 0), interleaved)


def odd_tokens_still(x, cos, sin, interleaved=False):
    got = by_swapping(x, cos, sin, interleaved)
    return torch.cat((got[:-1], x[-1:])) if len(x) % 2 and len(x) > 1 else got


ROTATE_RIGHT = {"by swapping": by_swapping, "by matrix": by_matrix, "float64 inside": in_wider_numbers}
ROTATE_WRONG = {
    "minus twice": (as_others_do, "sign of the rotation"),
    "layouts mixed": (mixed_layout, "rope layout"),
    "pairs over the whole head": (whole_head, "partial width"),
    "rows taken for heads": (by_heads, "each token's own angle"),
    "one angle for all pairs": (one_angle, "each pair's own angle"),
    "a neighbour's row": (neighbour_row, "each token's own angle"),
    "cosine and sine exchanged": (lambda x, c, s, interleaved=False: by_swapping(x, s.abs(), c, interleaved),
        "position 0"),
    "longer": (lambda x, c, s, interleaved=False: by_swapping(x, c * 1.1, s * 1.1, interleaved), "lengths stay"),
    "sine ignored": (lambda x, c, s, interleaved=False: by_swapping(x, c, s * 0, interleaved), "lengths stay"),
    "float32 answers": (lambda x, c, s, interleaved=False: by_swapping(x.float(), c, s, interleaved), "dtype"),
    "no slope": (lambda x, c, s, interleaved=False: by_swapping(x.detach(), c, s, interleaved), "gradient"),
    "last of odd lengths left": (odd_tokens_still, "lengths"),
}  # fmt: skip

# Norms.


def by_numpy(x, weight, *, eps, offset=0.0):
    wide = x.detach().double().numpy()
    got = wide / np.sqrt((wide**2).mean(-1, keepdims=True) + eps) * (offset + weight.detach().double().numpy())
    return torch.from_numpy(got).to(x.dtype)


def by_length(x, weight, *, eps, offset=0.0):
    wide = x.float()
    length = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    return (wide * torch.rsqrt(length**2 / x.shape[-1] + eps) * (offset + weight.float())).to(x.dtype)


def token_by_token(x, weight, *, eps, offset=0.0):
    rows = [row / (row @ row / len(row) + eps).sqrt() for row in x.float().reshape(-1, x.shape[-1])]
    got = torch.stack(rows).reshape(x.shape) if rows else x.float()
    return (got * (weight.float() + offset)).to(x.dtype)


def normed_before_weighing(x, weight, *, eps, offset=0.0):
    """As in Llama: rounded, then weighted."""
    wide = x.float()
    return (wide * (wide.pow(2).mean(-1, keepdim=True) + eps).rsqrt()).to(x.dtype) * (weight + offset)


def rms_over(dims, *, var=None, kind=torch.float32):
    def norm(x, weight, *, eps, offset=0.0):
        wide = x.to(kind)
        below = wide.pow(2).mean(dims, keepdim=True) if var is None else wide.var(-1, keepdim=True, correction=var)
        return (wide * (below + eps).rsqrt()).to(x.dtype) * (weight + offset)

    return norm


def rms_wide(x, weight, *, eps, offset=0.0):
    return x.float() * (x.float().pow(2).mean(-1, keepdim=True) + eps).rsqrt() * (weight.float() + offset)


def rms_in_place(x, weight, *, eps, offset=0.0):
    got = token_by_token(x, weight, eps=eps, offset=offset)
    with torch.no_grad():
        return x.copy_(got)


def rms_half_row(x, weight, *, eps, offset=0.0):
    half = x.shape[-1] // 2 * 2
    return (x.float() * (x.float()[..., :half].pow(2).mean(-1, keepdim=True) + eps).rsqrt()).to(x.dtype) * (
        weight + offset
    )


RMS_RIGHT = {"by length": by_length, "token by token": token_by_token, "llama's": normed_before_weighing}
RMS_WRONG = {
    "through numpy": (by_numpy, "gradient"),
    "variance below": (rms_over(-1, var=0), "mean"),
    "sample variance below": (rms_over(-1, var=1), "mean"),
    "over tokens and numbers": (rms_over((-2, -1)), "axis"),
    "the second axis": (rms_over(1), "axis"),
    "eps of its own": (lambda x, w, *, eps, offset=0.0: token_by_token(x, w, eps=1e-6, offset=offset), "eps"),
    "eps times two": (lambda x, w, *, eps, offset=0.0: token_by_token(x, w, eps=2 * eps, offset=offset), "eps"),
    "root of eps inside": (lambda x, w, *, eps, offset=0.0: token_by_token(x, w, eps=eps**0.5, offset=offset), "eps"),
    "weight added": (
        lambda x, w, *, eps, offset=0.0: token_by_token(x, torch.ones_like(w), eps=eps) + w + offset, "weight"),
    "weight squared": (lambda x, w, *, eps, offset=0.0: token_by_token(x, (w + offset) ** 2, eps=eps), "weight"),
    "offset taken away": (lambda x, w, *, eps, offset=0.0: token_by_token(x, w - offset, eps=eps), "weight offset"),
    "float32 answers": (rms_wide, "dtype"),
    "input overwritten": (rms_in_place, "in-place change of an input"),
    "unit length": (
        lambda x, w, *, eps, offset=0.0: F.normalize(x.float(), dim=-1).to(x.dtype) * (w + offset), "scale"),
    "half inside": (rms_over(-1, kind=torch.float16), "precision"),
    "odd rows": (rms_half_row, "widths"),
}  # fmt: skip


def layer(
    *, correction=0, outside=False, naive=False, before=False, biased=True, axis=-1, kind=torch.float32, weigh=True
):
    def norm(x, weight, bias, *, eps):
        wide = x.to(kind)
        mean = wide.mean(axis, keepdim=True)
        var = (
            wide.pow(2).mean(axis, keepdim=True) - mean**2
            if naive
            else wide.var(axis, keepdim=True, correction=correction)
        )
        y = (wide - mean) / (var.sqrt() + eps if outside else (var + eps).sqrt())
        bias = bias if biased else None
        if before and bias is not None:
            return ((y + bias) * weight).to(x.dtype)
        y = y * weight if weigh else y
        return (y if bias is None else y + bias).to(x.dtype)

    return norm


LAYER_RIGHT = {"by hand": layer(), "float64 inside": layer(kind=torch.float64)}
LAYER_WRONG = {
    "sample variance": (layer(correction=1), "scale"),
    "eps outside": (layer(outside=True), "eps"),
    "mean of squares": (layer(naive=True), "large mean"),
    "bias before the weight": (layer(before=True), "bias"),
    "no bias": (layer(biased=False), "bias"),
    "no weight": (layer(weigh=False), "weight"),
    "over tokens": (layer(axis=0), "axis"),
    "rms in its place": (lambda x, w, b, *, eps: token_by_token(x, w, eps=eps) + (0 if b is None else b), "mean"),
    "half inside": (layer(kind=torch.float16), "precision"),
}
FOREIGN = {
    "ops.rotate": (ROTATE_RIGHT, ROTATE_WRONG),
    "ops.rms_norm": (RMS_RIGHT, RMS_WRONG),
    "ops.layer_norm": (LAYER_RIGHT, LAYER_WRONG),
}
