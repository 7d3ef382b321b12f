r"""A pre-norm transformer block around :class:`GeoRoPEAttention`, and a stack of them."""
from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor, nn

from torch_geometric_inertial.nn.geo_rope_attention import GeoRoPEAttention
from torch_geometric_inertial.nn.geo_rope_geometry import PackedGeometry, TokenGeometry
from torch_geometric_inertial.nn.kv_cache import GeometryCache, KeyValueCache
from torch_geometric_inertial.nn.norm import make_norm


class SwiGLU(nn.Module):
    r""":math:`W_2(\mathrm{SiLU}(W_1 x) \odot W_3 x)` (Shazeer 2020), without biases; :math:`W_2` starts at zero."""
    def __init__(self, channels: int, hidden_channels: int):
        super().__init__()
        self.gate_up = nn.Linear(channels, 2 * hidden_channels, bias=False)
        self.down = nn.Linear(hidden_channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.gate_up.weight, std=0.02)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)
        return self.down(nn.functional.silu(gate) * up)


class GELUMLP(nn.Module):
    r""":math:`W_2\, \mathrm{GELU}(W_1 x)`, without biases; :math:`W_2` starts at zero."""
    def __init__(self, channels: int, hidden_channels: int):
        super().__init__()
        self.up = nn.Linear(channels, hidden_channels, bias=False)
        self.down = nn.Linear(hidden_channels, channels, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.up.weight, std=0.02)
        nn.init.zeros_(self.down.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(nn.functional.gelu(self.up(x)))


class TransformerBlock(nn.Module):
    r""":obj:`x += Attention(Norm(x)); x += MLP(Norm(x))`.

    Args:
        attention (GeoRoPEAttention): The attention layer; its size is the block's.
        dropout (float): Dropout of both residual branches. (default: :obj:`0.0`)
        norm (str): See :func:`~torch_geometric_inertial.nn.norm.make_norm`. (default: :obj:`'rms'`)
        feed_forward (str): :obj:`'swiglu'` (8C/3 hidden channels, rounded up) or :obj:`'gelu'` (4C).
            (default: :obj:`'swiglu'`)

    Raises:
        ValueError: If there is no such norm or MLP.
    """
    def __init__(self, attention: GeoRoPEAttention, dropout: float = 0.0, norm: str = 'rms',
                 feed_forward: str = 'swiglu'):
        super().__init__()
        if feed_forward not in ('swiglu', 'gelu'):
            raise ValueError(f"'feed_forward' must be 'swiglu' or 'gelu' (got '{feed_forward}')")
        channels = attention.channels
        self.attention_norm, self.attention = make_norm(norm, channels), attention
        self.feed_forward_norm = make_norm(norm, channels)
        multiple = 256 if channels >= 768 else 64
        self.feed_forward = (GELUMLP(channels, 4 * channels) if feed_forward == 'gelu' else SwiGLU(
            channels, math.ceil(8 * channels / 3 / multiple) * multiple))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, pos: Tensor, ptr: Tensor, cache: KeyValueCache | None,
                geometry: TokenGeometry) -> Tensor:
        x = x + self.dropout(self.attention(self.attention_norm(x), pos, ptr, cache, geometry))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


@dataclass
class StackCache:
    r"""What a stack has seen: the geometry that its layers share, and the keys and values of each layer."""
    geometry: GeometryCache
    layers: list[KeyValueCache]

    def _parts(self) -> Iterator[GeometryCache | KeyValueCache]:
        yield self.geometry
        yield from self.layers

    def put(self, rows: Tensor, other: StackCache, source: Tensor) -> None:
        r"""Replaces rows by the rows :obj:`source` of a cache of at most this capacity."""
        for part, new in zip(self._parts(), other._parts(), strict=True):
            part.put(rows, new, source)  # type: ignore[arg-type]

    def extend(self, capacity: int) -> None:
        r"""Makes room for more tokens per row."""
        for part in self._parts():
            part.extend(capacity)

    def clear(self, rows: Tensor) -> None:
        r"""Empties rows."""
        for part in self._parts():
            part.clear(rows)


class CausalStack(nn.Module):
    r"""Blocks that share one geometry.

    Args:
        num_layers (int): Number of blocks.
        dropout (float): Of the residual branches and the attention weights.
        norm (str): Of :class:`TransformerBlock`, and of queries and keys where they are normalized.
        feed_forward (str): Of :class:`TransformerBlock`.
        **kwargs: Of :class:`GeoRoPEAttention`.
    """
    def __init__(self, num_layers: int, dropout: float = 0.0, norm: str = 'rms', feed_forward: str = 'swiglu',
                 **kwargs):
        super().__init__()
        self.blocks = nn.ModuleList(
            TransformerBlock(GeoRoPEAttention(dropout=dropout, norm=norm, **kwargs), dropout, norm, feed_forward)
            for _ in range(num_layers))

    def new_cache(self, batch_size: int, capacity: int, like: Tensor, geometry: GeometryCache) -> StackCache:
        r"""An empty cache for :obj:`batch_size` sequences of at most :obj:`capacity` tokens, of the device and type of
        :obj:`like`; :obj:`geometry` is the cache of the geometry that the blocks share."""
        return StackCache(geometry, [block.attention.new_cache(batch_size, capacity, like, geometry)
                                     for block in self.blocks])

    def forward(self, x: Tensor, pos: Tensor, ptr: Tensor, geometry: TokenGeometry | PackedGeometry,
                cache: StackCache | None = None) -> Tensor:
        layers = [None] * len(self.blocks) if cache is None else cache.layers
        for block, layer_cache in zip(self.blocks, layers, strict=True):
            x = block(x, pos, ptr, layer_cache, geometry)
        return x

    def reset_parameters(self) -> None:
        for module in self.modules():
            if module is not self and isinstance(module, GeoRoPEAttention | SwiGLU | GELUMLP):
                module.reset_parameters()
