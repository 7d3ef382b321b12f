r"""What attention keeps of the tokens it has seen, so that a new token costs one row of the score.

Everything is written in place, row by row. A cache made by :meth:`~torch.Tensor.expand`, whose rows share their memory,
is therefore copied before it is written: a token of one sequence must not become a token of all.
"""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


def own_memory(cache: Tensor) -> Tensor:
    r"""The tensor itself, or a copy if it was expanded, so that no two of its entries share memory."""
    shares = any(stride == 0 and size > 1 for stride, size in zip(cache.stride(), cache.shape, strict=True))
    return cache.contiguous() if shares else cache


def replace_rows(cache: Tensor, rows: Tensor, other: Tensor, source: Tensor) -> Tensor:
    r"""Writes rows :obj:`source` of :obj:`other` [B', L' <= L, ...] over :obj:`rows` of a cache [B, L, ...], zeros
    behind them. Returns the cache, in the same memory unless that was expanded."""
    cache = own_memory(cache)
    cache[rows, :other.size(1)] = other[source].to(cache.dtype)
    cache[rows, other.size(1):] = 0
    return cache


def clear_rows(cache: Tensor, rows: Tensor) -> Tensor:
    r"""Writes zeros over :obj:`rows`, so that not even a NaN of theirs is left. Returns the cache, as above."""
    cache = own_memory(cache)
    cache[rows] = 0
    return cache


def extended(cache: Tensor, capacity: int) -> Tensor:
    r"""[B, L, ...] to [B, capacity, ...], zero at the end."""
    return torch.cat([cache, cache.new_zeros(cache.size(0), capacity - cache.size(1), *cache.shape[2:])], dim=1)


def append_tokens(cache: Tensor, slot: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    r"""A cache [B, L, ...] with new tokens at :obj:`slot`; a new tensor where a gradient is wanted, otherwise in the
    same memory unless that was expanded."""
    if torch.is_grad_enabled():
        return cache.index_put(slot, x.to(cache.dtype))
    return own_memory(cache).index_put_(slot, x.to(cache.dtype))


@dataclass
class GeometryCache:
    r"""What the tokens seen so far contribute to the geometry of later ones; shared by all layers of a model.

    A cache may have more rows than the batch that goes through it: the first ones are the batch's.

    Attributes:
        features (Tensor): Kernel features [B, L, F] of the tokens seen.
        length (Tensor): Tokens seen of each sequence [B].
        used (int): An upper bound of :obj:`length` of the rows in use, known without asking the device.
    """
    features: Tensor
    length: Tensor
    used: int = 0

    @classmethod
    def empty(cls, batch_size: int, capacity: int, num_features: int, like: Tensor) -> GeometryCache:
        r"""A cache for :obj:`batch_size` sequences of at most :obj:`capacity` tokens."""
        return cls(like.new_zeros(batch_size, capacity, num_features),
                   torch.zeros(batch_size, dtype=torch.long, device=like.device))

    def put(self, rows: Tensor, other: GeometryCache, source: Tensor) -> None:
        r"""Replaces rows by the rows :obj:`source` of a cache of at most this capacity."""
        self.features = replace_rows(self.features, rows, other.features, source)
        self.length = own_memory(self.length)
        self.length[rows] = other.length[source]

    def extend(self, capacity: int) -> None:
        r"""Makes room for more tokens per row."""
        self.features = extended(self.features, capacity)

    def clear(self, rows: Tensor) -> None:
        r"""Empties rows."""
        self.features, self.length = clear_rows(self.features, rows), clear_rows(self.length, rows)


@dataclass
class KeyValueCache:
    r"""Rotated keys and values that one layer has seen, and the geometry that all layers share.

    Attributes:
        key (Tensor): Keys [B, L, H, D].
        value (Tensor): Values [B, L, H, D].
        geometry (GeometryCache): Of the same tokens; the methods below leave it as it is.
    """
    key: Tensor
    value: Tensor
    geometry: GeometryCache

    def put(self, rows: Tensor, other: KeyValueCache, source: Tensor) -> None:
        r"""Replaces rows by the rows :obj:`source` of a cache of at most this capacity."""
        self.key = replace_rows(self.key, rows, other.key, source)
        self.value = replace_rows(self.value, rows, other.value, source)

    def extend(self, capacity: int) -> None:
        r"""Makes room for more tokens per row."""
        self.key, self.value = extended(self.key, capacity), extended(self.value, capacity)

    def clear(self, rows: Tensor) -> None:
        r"""Empties rows."""
        self.key, self.value = clear_rows(self.key, rows), clear_rows(self.value, rows)
