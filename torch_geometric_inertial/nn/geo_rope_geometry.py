r"""What GeoRoPE attention needs to know of positions: rotary phases, kernel products and who sees whom."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.kv_cache import GeometryCache, append_tokens, own_memory
from torch_geometric_inertial.nn.nystrom import GaussianKernel, NystromKernel
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.rotary import rotary_frequencies, rotary_phases
from torch_geometric_inertial.ops import georope_decode_gram, georope_gram

SHARED_LENGTH = 256  # up to here the layers share kernel products [T, S, N]; beyond, each makes them anew


@dataclass
class TokenGeometry:
    r"""All that attention needs to know of positions, computed once per pass and used by every layer.

    Attributes:
        packing (Packing): The layout of the query tokens.
        start (Tensor, optional): Slot of each sequence's first query in the cache [B]; :obj:`None` without a cache.
        phase (Tensor): Rotary phases [T, D / 2].
        gram (Tensor, optional): Kernel products [B, S, Nq, Nk]; :obj:`None` where the score has none.
        mask (Tensor): True where query i may see key j [B, 1, Nq, Nk].
    """
    packing: Packing
    start: Tensor | None
    phase: Tensor
    gram: Tensor | None
    mask: Tensor


class lazy_property:
    r"""A property that is computed when it is first read: ``functools.cached_property`` holds a lock in Python 3.11 and
    before, and :func:`torch.compile` cannot trace locks."""
    def __init__(self, compute: Callable):
        self.compute = compute

    def __get__(self, instance, owner=None):
        value = self.compute(instance)
        setattr(instance, self.compute.__name__, value)  # found before this descriptor, which has no __set__
        return value


def packing_of(pos: Tensor, ptr: Tensor) -> Packing:
    r"""The layout of the tokens at :obj:`pos`."""
    packing = Packing(ptr)
    if packing.batch.numel() != pos.size(0):
        raise ValueError(f"'ptr' must end in T = {pos.size(0)} (got {packing.batch.numel()})")
    return packing


class PackedGeometry:
    r"""The :class:`TokenGeometry` of whole sequences. The compiled attention reads offsets, positions and features;
    what the path through padded tensors reads is computed when a layer asks for it.

    Args:
        owner (GeoRoPEGeometry): Frequencies, kernel and causality.
        pos (Tensor): Positions [T, 3].
        ptr (Tensor): Offsets [B + 1].

    Raises:
        ValueError: If the offsets are not those of T tokens; under :func:`torch.compile` the operator says so instead,
            since a graph cannot wait for what :obj:`ptr` holds.
    """
    start = None

    def __init__(self, owner: GeoRoPEGeometry, pos: Tensor, ptr: Tensor):
        self.owner, self.pos, self.ptr = owner, pos, ptr
        self.features = None if owner.kernel is None else owner.kernel.features(pos)
        if not torch.compiler.is_compiling():
            _ = self.packing

    @lazy_property
    def packing(self) -> Packing:
        return packing_of(self.pos, self.ptr)

    @lazy_property
    def phase(self) -> Tensor:
        return rotary_phases(self.pos, self.owner.freqs.to(self.pos.dtype), self.owner.head_channels)

    @lazy_property
    def gram(self) -> Tensor | None:
        if self.features is None:
            return None
        with torch.autocast(self.pos.device.type, enabled=False):
            features = self.packing.pad(self.features)
            return self.owner.kernel.gram(features, features)

    @lazy_property
    def mask(self) -> Tensor:
        place = torch.arange(self.packing.size[1], device=self.pos.device)
        if self.owner.causal:
            return (place <= place.unsqueeze(1)).expand(self.packing.size[0], 1, -1, -1)
        return (place < self.packing.length.unsqueeze(1)).view(-1, 1, 1, place.numel())

    @lazy_property
    def shared_gram(self) -> Tensor | None:
        """Kernel products of packed tokens [T, S, N], or none where they would be large or N is not known."""
        if torch.compiler.is_compiling() or self.packing.size[1] > SHARED_LENGTH:
            return None
        return georope_gram(self.features, self.owner.scale_ptr, self.ptr, self.packing.size[1])


class GeoRoPEGeometry(nn.Module):
    r"""Turns positions into a :class:`TokenGeometry`. Layers of one model share one instance.

    Args:
        head_channels (int): Size :math:`D` of a head; even.
        kernel (Module, optional): :class:`NystromKernel`, :class:`GaussianKernel`, or :obj:`None` for rotary alone.
        causal (bool): Whether token i sees j ≤ i alone. (default: :obj:`True`)
        rotary (bool): Whether queries and keys turn with the position. (default: :obj:`True`)
    """
    freqs: Tensor
    scale_ptr: Tensor

    def __init__(self, head_channels: int, kernel: NystromKernel | GaussianKernel | None, causal: bool = True,
                 rotary: bool = True):
        super().__init__()
        self.head_channels, self.kernel, self.causal = head_channels, kernel, causal
        freqs = rotary_frequencies(head_channels)
        self.register_buffer('freqs', freqs if rotary else freqs[:0], persistent=False)
        is_nystrom = isinstance(kernel, NystromKernel)
        step, scales = (kernel.landmarks.size(0), len(kernel.widths)) if is_nystrom else (0, 0)
        self.register_buffer('scale_ptr', torch.arange(scales + 1) * step, persistent=False)

    def new_cache(self, batch_size: int, capacity: int, like: Tensor) -> GeometryCache:
        r"""An empty cache for :obj:`batch_size` sequences of at most :obj:`capacity` tokens."""
        num_features = 0 if self.kernel is None else self.kernel.features(like.new_zeros(1, 3)).size(-1)
        return GeometryCache.empty(batch_size, capacity, num_features, like)

    def forward(self, pos: Tensor, ptr: Tensor,
                cache: GeometryCache | None = None) -> TokenGeometry | PackedGeometry:
        with torch.autocast(pos.device.type, enabled=False):  # whitening cancels: in bfloat16 a kernel of 1 becomes 200
            return self._forward(pos, ptr, cache)

    def _forward(self, pos: Tensor, ptr: Tensor, cache: GeometryCache | None) -> TokenGeometry | PackedGeometry:
        if cache is None:
            return PackedGeometry(self, pos, ptr)
        packing = packing_of(pos, ptr)
        features = None if self.kernel is None else packing.pad(self.kernel.features(pos))
        start = cache.length[:packing.size[0]].clone()
        cache.length = own_memory(cache.length)
        cache.length[:packing.size[0]] = length = start + packing.length
        cache.used = num_keys = min(cache.used + packing.size[1], cache.features.size(1))
        gram = None
        if isinstance(self.kernel, NystromKernel) and packing.single and not torch.is_grad_enabled():
            cache.features = own_memory(cache.features)
            gram = georope_decode_gram(features.squeeze(1), start, len(self.kernel.widths), num_keys,
                                       cache.features[:packing.size[0]]).unsqueeze(2)
        elif self.kernel is not None:
            slot = (packing.batch, packing.slot + start[packing.batch])
            cache.features = append_tokens(cache.features, slot, packing.unpad(features))
            gram = self.kernel.gram(features, cache.features[:packing.size[0], :num_keys])
        query = torch.arange(packing.size[1], device=pos.device).expand(packing.size) + start.unsqueeze(1)  # its slot
        key = torch.arange(num_keys, device=pos.device)
        seen = key <= query.unsqueeze(-1) if self.causal else (key < length.unsqueeze(1)).unsqueeze(1)
        phase = rotary_phases(pos, self.freqs.to(pos.dtype), self.head_channels)
        return TokenGeometry(packing, start, phase, gram, seen.unsqueeze(1))
