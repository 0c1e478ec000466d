"""Rotary positions: each pair of a head's numbers turns by an angle that grows with the token's position.

Su et al. 2021 (arXiv 2104.09864), equation 34.   (a, b) -> (a cos - b sin, b cos + a sin),   angle_i = position * f_i
f_i = theta^(-2i / W): first pairs turn fast, last ones slowly. Dot products depend on position differences only.
Pairs are (i, i + W/2), "half-split" (Hugging Face), or (2i, 2i + 1), "interleaved" (the paper, GGUF llama files).
Departure: tables are as wide as what they rotate, with a heads axis of 1, and the sine carries its sign (minus for the
first of each pair), so that y = x cos + swap(x) sin: three calls, half the time of two half-width products.
N tokens, flat · H head · K head dim · W rotary width, W <= K (the rest passes through).   Read next: nn/positions.py
"""

from __future__ import annotations

import torch
from torch import Tensor


def frequencies(theta: float, width: int, device: torch.device | str | None = None) -> Tensor:
    """Radians per position of each pair, (W / 2,), float32."""
    # In float32 step by step, as models were trained: computed exactly, far positions would differ in the 4th digit.
    return 1.0 / theta ** (torch.arange(0, width, 2, device=device).float() / width)


def tables(
    frequencies_W: Tensor,
    positions_N: Tensor,
    *,
    dtype: torch.dtype = torch.float32,
    amplitude: float = 1.0,
    interleaved: bool = False,
) -> tuple[Tensor, Tensor]:
    """(cos, signed sin) for `rotate`, each (N, 1, W), times `amplitude`; angles in float32 or wider.

    `frequencies_W` holds one frequency per pair: (W / 2,), or (N, 1, W / 2) where each token has its own.
    """
    wide = torch.promote_types(dtype, torch.float32)
    angles_N1W = positions_N.to(wide)[:, None, None] * frequencies_W.to(wide)
    cos, sin = angles_N1W.cos() * amplitude, angles_N1W.sin() * amplitude
    if interleaved:
        return cos.repeat_interleave(2, -1).to(dtype), torch.stack((-sin, sin), -1).flatten(-2).to(dtype)
    return torch.cat((cos, cos), -1).to(dtype), torch.cat((-sin, sin), -1).to(dtype)


def rotate_readable(x_NHK: Tensor, cos_N1W: Tensor, sin_N1W: Tensor, interleaved: bool = False) -> Tensor:
    """(N, H, K) -> (N, H, K), pair by pair as the equation reads. Tables from `tables`, of the same layout."""
    width = cos_N1W.shape[-1]
    first, second = _pairs(x_NHK[..., :width], interleaved)
    cos, _ = _pairs(cos_N1W, interleaved)
    _, sin = _pairs(sin_N1W, interleaved)  # the half of the table without the minus
    turned = first * cos - second * sin, second * cos + first * sin
    turned_NHW = torch.stack(turned, -1).flatten(-2) if interleaved else torch.cat(turned, -1)
    return torch.cat((turned_NHW, x_NHK[..., width:]), -1)


def _pairs(x: Tensor, interleaved: bool) -> tuple[Tensor, Tensor]:
    """The first and the second numbers of all pairs along the last axis."""
    half = x.shape[-1] // 2
    return (x[..., 0::2], x[..., 1::2]) if interleaved else (x[..., :half], x[..., half:])


def rotate_fast(x_NHK: Tensor, cos_N1W: Tensor, sin_N1W: Tensor, interleaved: bool = False) -> Tensor:
    """The same in three calls. Arguments as `rotate_readable`; q and k side by side may share one call."""
    width = cos_N1W.shape[-1]
    if width < x_NHK.shape[-1]:
        turned_NHW = rotate_fast(x_NHK[..., :width], cos_N1W, sin_N1W, interleaved=interleaved)
        return torch.cat((turned_NHW, x_NHK[..., width:]), -1)
    if x_NHK.dtype != cos_N1W.dtype:  # once, or each product below would do it by itself
        x_NHK = x_NHK.to(torch.promote_types(x_NHK.dtype, cos_N1W.dtype))
    swapped = x_NHK.unflatten(-1, (-1, 2)).flip(-1).flatten(-2) if interleaved else x_NHK.roll(width // 2, -1)
    return (x_NHK * cos_N1W).addcmul_(swapped, sin_N1W)
