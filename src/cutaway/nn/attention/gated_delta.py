"""Gated DeltaNet: attention's place taken by a memory of constant size, which forgets and corrects itself.

Yang et al. 2024 (arXiv 2412.06464), section 3 and figure 1, as Qwen3-Next has it:
  [q, k, v] = silu(convolution(W x));   q = q / (|q| sqrt(K)),   k = k / |k|
  log a = -e^A softplus(W_a x + A'),   b = sigmoid(W_b x);   y = delta(q, k, v, log a, b)     (ops/delta.py)
  out = W_o (norm(y) * silu(W_z x)),   the norm over each head, its weight shared by all
It keeps one matrix (K, V) for each head, and the few tokens of the convolution: as much after a million tokens as
after one. What was written stays until the same key is written again, or fades.
W is one matrix, its rows in the order of key heads: of each its query, its key, its heads' values and their gates z;
those of W_b and W_a likewise.
Departure: a length of 0 is taken for 1e-3 or so (1e-6 is added to its square), as Qwen3-Next does.
N tokens, flat · B sequences · D model dim · C channel · H value head · G key head · K key dim · V value dim
Read next: ops/delta.py, nn/attention/short_convolution.py
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cutaway.base.bounds import at_least
from cutaway.base.errors import BadInput
from cutaway.nn.attention.short_convolution import ShortConvolution, streams
from cutaway.nn.context import Context
from cutaway.nn.cost import Cost, linear_cost
from cutaway.nn.linear import Linear
from cutaway.nn.norms import RMSNorm
from cutaway.nn.stream import Stream
from cutaway.ops.delta import CHUNK

STATE = "state"
TINY = 1e-6  # added to the square of a length that is divided by


@dataclass(frozen=True, kw_only=True)
class GatedDelta:
    """`heads`: those of values, each with a state; `key_heads`: those of queries and keys, each shared by as many value
    heads. `head_dim`: of queries and keys, `value_dim`: of values, as many if None. `kernel`: tokens that the
    convolution sees, its own included. `norm`: that of a head's output.
    """

    heads: int
    key_heads: int
    head_dim: int
    value_dim: int | None = None
    kernel: int = 4
    norm: RMSNorm = field(default_factory=RMSNorm)

    def __post_init__(self) -> None:
        at_least(self, 1, "heads", "key_heads", "head_dim", "value_dim", "kernel")
        if self.heads % self.key_heads:
            raise BadInput(f"{self.heads} heads cannot share {self.key_heads} key heads", field="GatedDelta.key_heads")
        # Told or not, it is a number: equal mixers compare equal.
        object.__setattr__(self, "value_dim", self.value_width)

    def check(self, length: int | None, *, causal: bool) -> None:
        """It reads from left to right; no text is too long."""
        if not causal:
            raise BadInput("a recurrent state reads from left to right", field="GatedDelta")

    @property
    def value_width(self) -> int:
        return self.head_dim if self.value_dim is None else self.value_dim

    @property
    def channels(self) -> int:
        """Numbers of a token that the convolution mixes: all queries, keys and values."""
        return 2 * self.key_heads * self.head_dim + self.heads * self.value_width

    def build(self, dim: int) -> GatedDeltaNet:
        return GatedDeltaNet(dim, self)

    def streams(self, dim: int) -> tuple[Stream, ...]:
        """A state for each head, and the convolution's last tokens: nothing grows with the text."""
        state = Stream(STATE, (self.heads, self.head_dim, self.value_width), per="sequence", wide=True)
        return (state, *streams(self.channels, self.kernel))

    def cost(self, dim: int, tokens: int, length: int) -> Cost:
        """The last `tokens` of `length`, however many stand before them: projections, and the rule chunk by chunk."""
        values = self.heads * self.value_width
        total = linear_cost(dim, self.channels + values, tokens, bias=False)
        total += linear_cost(dim, 2 * self.heads, tokens, bias=False) + linear_cost(values, dim, tokens, bias=False)
        vectors = self.channels * self.kernel + 2 * self.heads + self.norm.cost(self.value_width, 1, 1).parameters
        whole, rest = divmod(tokens, CHUNK)
        flops = whole * self._chunk(CHUNK) + self._chunk(rest)
        held = sum(stream.bytes(length) for stream in self.streams(dim))
        return total + Cost(parameters=vectors, flops=flops, cache_bytes=held)

    def _chunk(self, tokens: int) -> int:
        """FLOPs of the rule over so many tokens at once: keys with keys and with queries; with the state, before and
        behind; the system; and the sum that its solution gives."""
        pairs, width = tokens * tokens, self.value_width
        alike = 2 * self.key_heads * 2 * pairs * self.head_dim
        state = 3 * self.heads * 2 * tokens * self.head_dim * width
        return alike + state + self.heads * ((pairs - tokens) * width + 2 * pairs * width)


class GatedDeltaNet(nn.Module):
    """x (N, D) -> (N, D). Where "attention" is wanted, reports `fade_NH` (a) and `write_NH` (b), numbers of 0 to 1."""

    def __init__(self, dim: int, spec: GatedDelta):
        super().__init__()
        self.spec = spec
        values = spec.heads * spec.value_width
        self.rows = Linear(dim, spec.channels + values)
        self.rates = Linear(dim, 2 * spec.heads)
        self.convolution = ShortConvolution(spec.channels, spec.kernel)
        # The paper's own start, Mamba's: decays of many speeds.
        self.fade = nn.Parameter(torch.empty(spec.heads).uniform_(0.01, 16.0).log_())
        self.fade_bias = nn.Parameter(torch.ones(spec.heads))
        self.norm = spec.norm.build(spec.value_width)
        self.out = Linear(values, dim)

    def forward(self, x_ND: Tensor, context: Context) -> tuple[Tensor, dict[str, Any]]:
        _refuse_others(context)
        mixed_NC, gate_NHV = self._rows(x_ND, context)
        write_NH, fade_NH = self._rates(x_ND, context)
        q_NGK, k_NGK, v_NHV = self._heads(F.silu(self.convolution(mixed_NC, context)))
        y_NHV, state_BHKV = context.forms.delta(
            q_NGK, k_NGK, v_NHV, fade_NH, write_NH, self._state(context, v_NHV), context.lengths
        )
        if context.cache is not None:
            context.cache.replace(context.layer, STATE, state_BHKV)
        y_NHV = self.norm(y_NHV, context)
        y_NHV = (y_NHV * F.silu(gate_NHV.to(fade_NH.dtype))).to(x_ND.dtype)
        report = {"fade_NH": fade_NH.exp(), "write_NH": write_NH} if "attention" in context.want else {}
        return self.out(y_NHV.flatten(-2), context), report

    def _rows(self, x_ND: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """Queries, keys and values side by side, all heads' of each together (N, C); and the gates (N, H, V)."""
        spec, share = self.spec, self.spec.heads // self.spec.key_heads * self.spec.value_width
        rows_NGX = self.rows(x_ND, context).unflatten(-1, (spec.key_heads, -1))
        *mixed, gate = rows_NGX.split((spec.head_dim, spec.head_dim, share, share), -1)
        return torch.cat([one.flatten(1) for one in mixed], -1), gate.reshape(-1, spec.heads, spec.value_width)

    def _rates(self, x_ND: Tensor, context: Context) -> tuple[Tensor, Tensor]:
        """b and log a, (N, H), in float32 at least: rounded to half precision, a long memory would be no memory."""
        write, fade = self.rates(x_ND, context).unflatten(-1, (self.spec.key_heads, -1)).chunk(2, -1)
        wide = torch.promote_types(x_ND.dtype, torch.float32)
        fade_NH = F.softplus(fade.flatten(1).to(wide) + self.fade_bias.to(wide)) * -self.fade.to(wide).exp()
        return write.flatten(1).sigmoid(), fade_NH

    def _heads(self, mixed_NC: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries and keys (N, G, K) of one length, values (N, H, V)."""
        spec, keys = self.spec, self.spec.key_heads * self.spec.head_dim
        q, k, v = mixed_NC.split((keys, keys, spec.heads * spec.value_width), -1)
        q_NGK, k_NGK = (_unit(one.unflatten(-1, (-1, spec.head_dim))) for one in (q, k))
        return q_NGK * spec.head_dim**-0.5, k_NGK, v.unflatten(-1, (-1, spec.value_width))

    def _state(self, context: Context, v_NHV: Tensor) -> Tensor:
        """(B, H, K, V), as it was before this pass."""
        spec = self.spec
        if context.cache is not None:
            return context.cache.read(context.layer, STATE)[0]
        wide = torch.promote_types(v_NHV.dtype, torch.float32)
        return v_NHV.new_zeros(len(context.lengths), spec.heads, spec.head_dim, spec.value_width, dtype=wide)


def _unit(x_NGK: Tensor) -> Tensor:
    """Vectors of length 1, in float32 at least."""
    wide = x_NGK.to(torch.promote_types(x_NGK.dtype, torch.float32))
    return wide * (wide.square().sum(-1, keepdim=True) + TINY).rsqrt()


def _refuse_others(context: Context) -> None:
    if not context.causal or context.prefix is not None or context.bias is not None:
        raise BadInput("a recurrent state reads from left to right, without a prefix or a bias", field="GatedDelta")
