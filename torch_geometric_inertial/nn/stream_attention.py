r"""The four attentions of GeoMFormer (Sec. 4). Scalars are [N, d], vectors [N, 3, d]; a linear map of vectors acts on
their channels and has no bias. Scores are invariant, values are scalars or vectors, so outputs turn as they should."""
from __future__ import annotations

import math

from torch import Tensor, nn

from torch_geometric_inertial.nn.pair_attention import PairAttention


class StreamAttention(nn.Module):
    r"""Queries, keys and values of a subclass, heads, and the output matrix :math:`W_O`.

    Args:
        channels (int): Width d.
        heads (int): Attention heads, which divide d.
        dropout (float): Of the attention weights. (default: :obj:`0.0`)
    """
    parts = 1  #: Numbers per channel in queries: 1 for scalars, 3 for vectors.

    def __init__(self, channels: int, heads: int, dropout: float = 0.0):
        super().__init__()
        self.channels, self.heads, self.dropout = channels, heads, dropout
        self.scale = 1 / math.sqrt(self.parts * channels / heads)  # whitened vectors have unit variance per entry
        self.out = nn.Linear(channels, channels, bias=self.parts == 1)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pairs: PairAttention, bias: Tensor) -> Tensor:
        if self.parts == 1:
            q, k, v = q.unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1)
        out = pairs.attend(q, k, v, bias, self.scale, self.heads, self.dropout if self.training else 0.0)
        return self.out(out.squeeze(1) if self.parts == 1 else out)


class InvariantSelfAttention(StreamAttention):
    r""":math:`q = \hat I W_Q,\; k = \hat I W_K,\; v = \hat I W_V`. :math:`4 d^2` weights."""
    def __init__(self, channels: int, heads: int, dropout: float = 0.0):
        super().__init__(channels, heads, dropout)
        self.qkv = nn.Linear(channels, 3 * channels)

    def forward(self, s: Tensor, v: Tensor, pairs: PairAttention, bias: Tensor) -> Tensor:
        q, k, value = self.qkv(s).chunk(3, dim=-1)
        return self.attend(q, k, value, pairs, bias)


class InvariantCrossAttention(StreamAttention):
    r""":math:`q = \hat I W_Q,\; k = \langle \hat E W_1, \hat E W_2\rangle,\; v = \langle \hat E W_3, \hat E W_4\rangle`
    with the product over the axis of space. :math:`6 d^2` weights."""
    def __init__(self, channels: int, heads: int, dropout: float = 0.0):
        super().__init__(channels, heads, dropout)
        self.query, self.factors = nn.Linear(channels, channels), nn.Linear(channels, 4 * channels, bias=False)

    def forward(self, s: Tensor, v: Tensor, pairs: PairAttention, bias: Tensor) -> Tensor:
        left, right = self.factors(v).chunk(2, dim=-1)
        k, value = (left * right).sum(1).chunk(2, dim=-1)
        return self.attend(self.query(s), k, value, pairs, bias)


class EquivariantSelfAttention(StreamAttention):
    r""":math:`q = \hat E W_Q,\; k = \hat E W_K,\; v = \hat E W_V`, scores summed over space. :math:`4 d^2` weights."""
    parts = 3

    def __init__(self, channels: int, heads: int, dropout: float = 0.0):
        super().__init__(channels, heads, dropout)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)

    def forward(self, s: Tensor, v: Tensor, pairs: PairAttention, bias: Tensor) -> Tensor:
        q, k, value = self.qkv(v).chunk(3, dim=-1)
        return self.attend(q, k, value, pairs, bias)


class EquivariantCrossAttention(StreamAttention):
    r""":math:`q = \hat E W_Q,\; k = \hat E W_1 \odot \hat I W_2,\; v = \hat E W_3 \odot \hat I W_4`.
    :math:`6 d^2` weights."""
    parts = 3

    def __init__(self, channels: int, heads: int, dropout: float = 0.0):
        super().__init__(channels, heads, dropout)
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.gate = nn.Linear(channels, 2 * channels)

    def forward(self, s: Tensor, v: Tensor, pairs: PairAttention, bias: Tensor) -> Tensor:
        q, k, value = self.qkv(v).chunk(3, dim=-1)
        key_gate, value_gate = self.gate(s).unsqueeze(1).chunk(2, dim=-1)
        return self.attend(q, k * key_gate, value * value_gate, pairs, bias)
