"""A short convolution: each number of a token mixed with the same number of the few tokens before it.

As in H3 (arXiv 2212.14052, section 3.1) and Mamba, before what keeps a state: y_t = sum_{j<J} w_j x_{t-J+1+j}, for each
channel by itself, nothing standing before a text's first token. While decoding it keeps the last J - 1 tokens' input.
N tokens, flat · B sequences · T position · C channel · J token of the kernel.   Read next: nn/attention/gated_delta.py
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cutaway.nn.context import Context
from cutaway.nn.stream import Stream
from cutaway.ops.delta import rectangles

KEPT = "convolution"


def streams(channels: int, kernel: int) -> tuple[Stream, ...]:
    """What a convolution over so many tokens keeps: those that the next one sees beside itself."""
    return (Stream(KEPT, (kernel - 1, channels), per="sequence"),) if kernel > 1 else ()


class ShortConvolution(nn.Module):
    """x (N, C) -> (N, C). Its weight is (C, 1, J), as torch's own convolutions have it, and starts uniform within
    1/sqrt(J), as theirs do."""

    def __init__(self, channels: int, kernel: int):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, 1, kernel).uniform_(-(kernel**-0.5), kernel**-0.5))

    def forward(self, x_NC: Tensor, context: Context) -> Tensor:
        kernel, keeps = self.weight.shape[2], context.cache is not None and self.weight.shape[2] > 1
        if keeps and context.cache is not None:
            before_BJC = context.cache.read(context.layer, KEPT)[0].to(x_NC.dtype)
        else:
            before_BJC = x_NC.new_zeros(len(context.lengths), kernel - 1, x_NC.shape[1])
        rows, ends = [x_NC[:0]], [before_BJC[:0]]
        for sequences, tokens in rectangles(context.lengths):
            before_bJC = before_BJC[sequences]
            x_bTC = torch.cat((before_bJC, x_NC[tokens].unflatten(0, (len(before_bJC), -1))), 1)
            rows.append(self._mixed(x_bTC).flatten(0, 1))
            ends.append(x_bTC[:, x_bTC.shape[1] - kernel + 1 :])
        if keeps and context.cache is not None:
            context.cache.replace(context.layer, KEPT, torch.cat(ends))
        return torch.cat(rows)

    def _mixed(self, x_BTC: Tensor) -> Tensor:
        """Each window of J tokens as one; J - 1 fewer than there are."""
        kernel, weight_JC = self.weight.shape[2], self.weight[:, 0].t().to(x_BTC.dtype)
        count = x_BTC.shape[1] - kernel + 1
        y_BTC = x_BTC[:, :count] * weight_JC[0]
        for j in range(1, kernel):
            y_BTC = torch.addcmul(y_BTC, x_BTC[:, j : j + count], weight_JC[j])
        return y_BTC

    def extra_repr(self) -> str:
        return f"{self.weight.shape[0]} channels, {self.weight.shape[2]} tokens"
