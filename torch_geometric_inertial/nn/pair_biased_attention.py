r"""Attention among the atoms of a bond graph: what two atoms are to each other enters the score and the value.

.. math::
    a_{ij} = \mathrm{softmax}_j\Big(\tfrac{q_i \cdot k_j}{\sqrt d} + b \cdot e_{ij}\Big), \qquad
    o_i = W_o \sum_j a_{ij} v_j + W_e \sum_j a_{ij} e_{ij}

The bias is Graphormer's (Ying et al., arXiv:2106.05234, Eq. 6), the pair term of the value that of invariant point
attention (Jumper et al. 2021, Supplementary Algorithm 22).
"""
from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.transformer_block import SwiGLU


class PairCache(NamedTuple):
    r"""Keys and values of the tokens seen so far, each [B, heads, capacity, C / heads]."""
    key: Tensor
    value: Tensor


class PairBiasedAttention(nn.Module):
    r"""See the module.

    Args:
        channels (int): Size of a token.
        heads (int): Attention heads.
        pair_channels (int): Size of a pair.

    Shapes:
        - **input:** tokens [B, S, C], pairs [B, S, J, P], mask [B or 1, S, J] (true where token i may look at j); a
          cache and the slot [B] of each row's one new token where there is one (S = 1, J slots of the cache in use)
        - **output:** [B, S, C]

    Raises:
        ValueError: If :obj:`channels` is no multiple of :obj:`heads`.
    """
    def __init__(self, channels: int, heads: int, pair_channels: int):
        super().__init__()
        if channels % heads != 0:
            raise ValueError(f"'channels' must be a multiple of 'heads' = {heads} (got {channels})")
        self.heads = heads
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.bias = nn.Linear(pair_channels, heads)
        self.out = nn.Linear(channels, channels, bias=False)
        self.pair_out = nn.Linear(heads * pair_channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.pair_out.weight)

    def new_cache(self, batch_size: int, capacity: int, like: Tensor) -> PairCache:
        shape = (batch_size, self.heads, capacity, self.out.in_features // self.heads)
        return PairCache(like.new_zeros(shape), like.new_zeros(shape))

    def forward(self, x: Tensor, pair: Tensor, mask: Tensor, cache: PairCache | None = None,
                slot: Tensor | None = None) -> Tensor:
        batch_size, length, channels = x.shape
        query, key, value = self.qkv(x).view(batch_size, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        if cache is not None:
            row = torch.arange(batch_size, device=x.device)
            cache.key[row, :, slot], cache.value[row, :, slot] = key[:, :, 0], value[:, :, 0]
            key, value = (c[:batch_size, :, :pair.size(2)] for c in cache)
        score = query @ key.mT / math.sqrt(query.size(-1)) + self.bias(pair).permute(0, 3, 1, 2)
        weight = score.masked_fill(~mask.unsqueeze(1), -1e9).softmax(dim=-1).to(value.dtype)
        out = (weight @ value).transpose(1, 2).reshape(batch_size, length, channels)
        pair_out = (weight.transpose(1, 2) @ pair.to(weight.dtype)).flatten(2)  # [B, S, heads * P]
        return self.out(out) + self.pair_out(pair_out)


class PairBiasedBlock(nn.Module):
    r""":obj:`x += Attention(Norm(x)); x += MLP(Norm(x))`, with the MLP of Shazeer (2020) and dropout
    of both sums; the other arguments as :class:`PairBiasedAttention`."""
    def __init__(self, channels: int, heads: int, pair_channels: int, dropout: float = 0.0):
        super().__init__()
        self.attention_norm, self.feed_forward_norm = nn.RMSNorm(channels), nn.RMSNorm(channels)
        self.attention = PairBiasedAttention(channels, heads, pair_channels)
        self.feed_forward = SwiGLU(channels, math.ceil(8 * channels / 3 / 32) * 32)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pair: Tensor, mask: Tensor, cache: PairCache | None = None,
                slot: Tensor | None = None) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), pair, mask, cache, slot))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
