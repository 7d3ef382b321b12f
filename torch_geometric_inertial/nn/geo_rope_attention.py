r"""Self-attention whose score knows where the atoms are: rotary on coordinates plus gained Nyström kernels."""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.norm import make_norm
from torch_geometric_inertial.nn.nystrom import NystromFeatures, gaussian_kernel
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.rotary import rotary_frequencies, rotary_phases
from torch_geometric_inertial.ops import (
    georope_attention,
    georope_decode,
    georope_decode_gram,
    georope_gram,
    rope_rotate,
)
from torch_geometric_inertial.ops.library import has_kernel

SHARED_LENGTH = 256  # up to here the layers share kernel products [T, S, N]; beyond, each makes them anew


class GaussianKernel(nn.Module):
    r"""The Gaussian kernel itself, in the place of its Nyström features: the oracle, at O(N²) exponentials."""
    def __init__(self, widths: tuple[float, ...]):
        super().__init__()
        self.widths = tuple(widths)

    def features(self, pos: Tensor) -> Tensor:
        return pos

    def gram(self, query: Tensor, key: Tensor) -> Tensor:
        return torch.stack([gaussian_kernel(query, key.unsqueeze(-3), width) for width in self.widths], dim=1)


class NystromKernel(NystromFeatures):
    r""":class:`NystromFeatures` as attention uses them: [..., 3] -> [..., S * m] and inner products a scale."""
    def features(self, pos: Tensor) -> Tensor:
        return self(pos).flatten(-2)

    def gram(self, query: Tensor, key: Tensor) -> Tensor:
        query, key = (x.unflatten(-1, (len(self.widths), -1)).transpose(1, 2) for x in (query, key))
        return query @ key.mT  # [B, S, Nq, Nk]


def replace_rows(cache: Tensor, rows: Tensor, other: Tensor, source: Tensor) -> None:
    r"""[B, L, ...] in place at :obj:`rows`, by the rows :obj:`source` of a tensor [B', L' <= L, ...]."""
    cache[rows, :other.size(1)] = other[source].to(cache.dtype)
    cache[rows, other.size(1):] = 0


def extended(cache: Tensor, capacity: int) -> Tensor:
    r"""[B, L, ...] to [B, capacity, ...], zero at the end."""
    return torch.cat([cache, cache.new_zeros(cache.size(0), capacity - cache.size(1), *cache.shape[2:])], dim=1)


def append_tokens(cache: Tensor, slot: tuple[Tensor, Tensor], x: Tensor) -> Tensor:
    r"""A cache [B, L, ...] with new tokens at :obj:`slot`; the same memory unless a gradient is wanted."""
    if torch.is_grad_enabled():
        return cache.index_put(slot, x.to(cache.dtype))
    return cache.index_put_(slot, x.to(cache.dtype))


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
        return cls(like.new_zeros(batch_size, capacity, num_features),
                   torch.zeros(batch_size, dtype=torch.long, device=like.device))

    def put(self, rows: Tensor, other: GeometryCache, source: Tensor) -> None:
        r"""Replaces rows in place by the rows :obj:`source` of a cache of at most this capacity."""
        replace_rows(self.features, rows, other.features, source)
        self.length[rows] = other.length[source]

    def extend(self, capacity: int) -> None:
        r"""Makes room for more tokens a row."""
        self.features = extended(self.features, capacity)

    def clear(self, rows: Tensor) -> None:
        r"""Empties rows in place."""
        self.features[rows], self.length[rows] = 0, 0


@dataclass
class AttentionCache:
    r"""Rotated keys and values [B, L, H, D] that one layer has seen, and the geometry that all layers share."""
    key: Tensor
    value: Tensor
    geometry: GeometryCache

    def put(self, rows: Tensor, other: AttentionCache, source: Tensor) -> None:
        r"""Replaces rows in place by the rows :obj:`source` of a cache of at most this capacity, its geometry apart."""
        replace_rows(self.key, rows, other.key, source)
        replace_rows(self.value, rows, other.value, source)

    def extend(self, capacity: int) -> None:
        r"""Makes room for more tokens a row; the geometry apart."""
        self.key, self.value = extended(self.key, capacity), extended(self.value, capacity)

    def clear(self, rows: Tensor) -> None:
        r"""Empties rows in place, so that not even a NaN of theirs is left; the geometry apart."""
        self.key[rows], self.value[rows] = 0, 0


@dataclass
class TokenGeometry:
    r"""All that attention needs to know of positions, computed once a pass and used by every layer.

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


class made_once:
    r"""A property that is made when it is first read: ``functools.cached_property`` holds a lock in Python 3.11 and
    before, and :func:`torch.compile` cannot trace locks."""
    def __init__(self, make: Callable):
        self.make = make

    def __get__(self, instance, owner=None):
        value = self.make(instance)
        setattr(instance, self.make.__name__, value)  # found before this descriptor, which has no __set__
        return value


def packing_of(pos: Tensor, ptr: Tensor) -> Packing:
    r"""The layout of the tokens at :obj:`pos`."""
    packing = Packing(ptr)
    if packing.batch.numel() != pos.size(0):
        raise ValueError(f"'ptr' must end in T = {pos.size(0)} (got {packing.batch.numel()})")
    return packing


class PackedGeometry:
    r"""The :class:`TokenGeometry` of whole sequences. The compiled attention reads offsets, positions and features;
    what the path through padded tensors reads is made when a layer asks for it.

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

    @made_once
    def packing(self) -> Packing:
        return packing_of(self.pos, self.ptr)

    @made_once
    def phase(self) -> Tensor:
        return rotary_phases(self.pos, self.owner.freqs.to(self.pos.dtype), self.owner.head_channels)

    @made_once
    def gram(self) -> Tensor | None:
        if self.features is None:
            return None
        with torch.autocast(self.pos.device.type, enabled=False):
            features = self.packing.pad(self.features)
            return self.owner.kernel.gram(features, features)

    @made_once
    def mask(self) -> Tensor:
        place = torch.arange(self.packing.size[1], device=self.pos.device)
        if self.owner.causal:
            return (place <= place.unsqueeze(1)).expand(self.packing.size[0], 1, -1, -1)
        return (place < self.packing.length.unsqueeze(1)).view(-1, 1, 1, place.numel())

    @made_once
    def shared_gram(self) -> Tensor | None:
        """Kernel products of packed tokens [T, S, N], or none where they would be large or N is not known."""
        if torch.compiler.is_compiling() or self.packing.size[1] > SHARED_LENGTH:
            return None
        return georope_gram(self.features, self.owner.scale_ptr, self.ptr, self.packing.size[1])

    def attend(self, q: Tensor, k: Tensor, v: Tensor, gain: Tensor | None, turn: bool) -> Tensor:
        r"""Attention [T, H, D] in one operator, of heads that are yet to turn unless :obj:`turn` is false."""
        freqs = self.owner.freqs if turn else self.owner.freqs[:0]
        features, gram, scale_ptr = None, None, self.owner.scale_ptr
        if gain is None:
            gain, scale_ptr = q.new_empty(q.size(1), 0), scale_ptr[:1]
        else:
            gram = self.shared_gram
            features = self.features if gram is None else None
        return georope_attention(q, k, v, self.pos, features, gain, scale_ptr, freqs, self.ptr, self.owner.causal,
                                 gram)[0]


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
        cache.length[:packing.size[0]] = length = start + packing.length
        cache.used = num_keys = min(cache.used + packing.size[1], cache.features.size(1))
        gram = None
        if isinstance(self.kernel, NystromKernel) and packing.single and not torch.is_grad_enabled():
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


class GeoRoPEAttention(nn.Module):
    r"""Multi-head self-attention with geometric rotary position encoding (GeoRoPE; InertialAR, arXiv:2510.27497).

    .. math::
        S_{ij} = \frac{(R(p_i) q_i) \cdot (R(p_j) k_j)}{\sqrt D} + \sum_s g_{h,s}\, \phi_s(p_i) \cdot \phi_s(p_j),
        \quad \mathrm{out}_i = \sum_{j \le i} \mathrm{softmax}_j(S_{ij})\, v_j

    The first term depends on :math:`p_i - p_j` alone; the second is a learned mixture of Gaussians of the distance.

    Args:
        channels (int): Size of a token, a multiple of :obj:`2 * heads`.
        heads (int): Number of heads :math:`H`.
        fusion (str): :obj:`'score'` adds both terms in every head; :obj:`'heads'` is the arrangement of the released
            InertialAR: rotary in half of the heads, and in the other half no projection, q = k = v = the raw slice of
            the token. (default: :obj:`'score'`)
        exact (bool): Use the Gaussian kernel itself instead of its Nyström features. (default: :obj:`False`)
        causal (bool): Whether token i sees j ≤ i alone. (default: :obj:`True`)
        dropout (float): Dropout of attention weights in training. (default: :obj:`0.0`)
        qk_norm (bool): Normalise queries and keys. (default: :obj:`False`)
        norm (str): How, see :func:`~torch_geometric_inertial.nn.norm.make_norm`. (default: :obj:`'rms'`)
        geometry (GeoRoPEGeometry, optional): Shared by the layers of one model; an own one if :obj:`None`.
        **kwargs: Of :class:`~torch_geometric_inertial.nn.NystromFeatures`.

    Shapes:
        - **input:** tokens [T, C], positions [T, 3] (Å), offsets ptr [B + 1]
        - **output:** tokens [T, C]

    Raises:
        ValueError: If :obj:`channels` does not divide, :obj:`fusion` is unknown, or shapes do not match.
    """
    def __init__(self, channels: int, heads: int, *, fusion: str = 'score', exact: bool = False, causal: bool = True,
                 dropout: float = 0.0, qk_norm: bool = False, norm: str = 'rms',
                 geometry: GeoRoPEGeometry | None = None, **kwargs):
        super().__init__()
        if heads < 1 or channels % (2 * heads) != 0:
            raise ValueError(f"'channels' must be a multiple of 2 * heads = {2 * heads} (got {channels})")
        if fusion not in ('score', 'heads'):
            raise ValueError(f"'fusion' must be 'score' or 'heads' (got '{fusion}')")
        if fusion == 'heads' and heads % 2 != 0:
            raise ValueError(f"fusion='heads' needs an even number of 'heads' (got {heads})")
        if not 0 <= dropout < 1:
            raise ValueError(f"'dropout' must be in [0, 1) (got {dropout})")
        self.channels, self.heads, self.fusion, self.dropout = channels, heads, fusion, dropout
        if geometry is None:
            widths = kwargs.get('widths', (1.0, 2.0, 4.0))
            kernel = None if fusion == 'heads' else GaussianKernel(widths) if exact else NystromKernel(**kwargs)
            geometry = self.own_geometry = GeoRoPEGeometry(channels // heads, kernel, causal)
        self._geometry = (geometry, )  # in a tuple, so that a shared one is its owner's alone in the state
        projected = channels // 2 if fusion == 'heads' else channels
        self.qkv = nn.Linear(projected, 3 * projected, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        self.q_norm, self.k_norm = (
            make_norm(norm, channels // heads) if qk_norm else nn.Identity() for _ in range(2))
        has_kernel = fusion == 'score' and geometry.kernel is not None
        self.gain = nn.Parameter(torch.empty(heads, len(geometry.kernel.widths))) if has_kernel else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.qkv.weight, std=0.02)
        nn.init.zeros_(self.out.weight)
        if self.gain is not None:
            nn.init.normal_(self.gain, std=0.5)

    @property
    def geometry(self) -> GeoRoPEGeometry:
        return self._geometry[0]

    def new_cache(self, batch_size: int, capacity: int, like: Tensor,
                  geometry: GeometryCache | None = None) -> AttentionCache:
        r"""An empty cache for :obj:`batch_size` sequences of at most :obj:`capacity` tokens."""
        shape = (batch_size, capacity, self.heads, self.channels // self.heads)
        geometry = self.geometry.new_cache(batch_size, capacity, like) if geometry is None else geometry
        return AttentionCache(like.new_zeros(shape), like.new_zeros(shape), geometry)

    def forward(self, x: Tensor, pos: Tensor, ptr: Tensor, cache: AttentionCache | None = None,
                geometry: TokenGeometry | PackedGeometry | None = None) -> Tensor:
        r"""
        Args:
            x (Tensor): Tokens [T, C], packed: sequence b is :obj:`x[ptr[b]:ptr[b + 1]]`.
            pos (Tensor): Positions [T, 3] in Å, float32 or float64.
            ptr (Tensor): Offsets [B + 1].
            cache (AttentionCache, optional): Keys and values of the tokens before; these tokens are added to it.
            geometry (TokenGeometry, optional): Of these positions, where another layer has computed it already.
        """
        if x.dim() != 2 or x.size(1) != self.channels or pos.shape != (x.size(0), 3):
            raise ValueError(f"expected 'x' [T, {self.channels}] and 'pos' [T, 3] "
                             f"(got {tuple(x.shape)} and {tuple(pos.shape)})")
        if geometry is None:
            geometry = self.geometry(pos, ptr, None if cache is None else cache.geometry)
        if isinstance(geometry, PackedGeometry) and self._serves(x):
            turned = self.fusion == 'heads'  # half of the heads
            q, k, v = self._qkv(x, geometry.phase if turned else None)
            return self.out(geometry.attend(q.to(v.dtype), k.to(v.dtype), v, self.gain, not turned).flatten(-2))
        q, k, v = self._qkv(x, geometry.phase)  # [T, H, D]
        packing = geometry.packing
        if cache is not None and packing.single and not torch.is_grad_enabled() and not self.training:
            return self.out(self._decode(q, k, v, cache, geometry).flatten(-2))
        if cache is None:
            key, value = packing.pad(k), packing.pad(v)
        else:
            slot = (packing.batch, packing.slot + geometry.start[packing.batch])
            cache.key, cache.value = append_tokens(cache.key, slot, k), append_tokens(cache.value, slot, v)
            seen = (slice(packing.size[0]), slice(geometry.mask.size(-1)))
            key, value = cache.key[seen].to(q.dtype), cache.value[seen].to(q.dtype)
        score = packing.pad(q).transpose(1, 2) @ key.permute(0, 2, 3, 1) / math.sqrt(q.size(-1))  # [B, H, Nq, Nk]
        if self.gain is not None:
            score = score + torch.einsum('hs,bsij->bhij', self.gain, geometry.gram)
        score = score.to(torch.promote_types(score.dtype, torch.float32)).masked_fill(~geometry.mask, -1e30)
        prob = score.softmax(dim=-1).to(value.dtype)
        prob = nn.functional.dropout(prob, self.dropout, self.training)
        return self.out(packing.unpad((prob @ value.transpose(1, 2)).transpose(1, 2).flatten(-2)))

    def _serves(self, x: Tensor) -> bool:
        """Whether the compiled operator does what this layer does: no dropout, no kernel but Nyström's."""
        if self.training and self.dropout > 0:
            return False
        return has_kernel('georope_attention', x) and not (
            self.gain is not None and isinstance(self.geometry.kernel, GaussianKernel))

    def _qkv(self, x: Tensor, phase: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        raw = None
        if self.fusion == 'heads':
            x, raw = x.chunk(2, dim=-1)
            raw = raw.unflatten(-1, (self.heads // 2, -1))
        q, k, v = self.qkv(x).unflatten(-1, (3, -1, self.channels // self.heads)).unbind(1)
        q, k = self.q_norm(q), self.k_norm(k)  # before they turn: the norm's gains see no phase
        if phase is not None:
            q, k = rope_rotate(q, phase), rope_rotate(k, phase)
        if raw is not None:
            raw = raw.to(v.dtype)
            q, k, v = (torch.cat([a, raw], dim=1) for a in (q, k, v))
        return q, k, v

    def _decode(self, q: Tensor, k: Tensor, v: Tensor, cache: AttentionCache, geometry: TokenGeometry) -> Tensor:
        rows, num_keys = q.size(0), geometry.mask.size(-1)
        wide = torch.promote_types(q.dtype, torch.float32)
        if self.gain is None:
            gain, gram = q.new_empty(self.heads, 0, dtype=wide), q.new_empty(rows, 0, num_keys, dtype=wide)
        else:
            gain, gram = self.gain.to(wide), geometry.gram.squeeze(2).to(wide)
        return georope_decode(q, k, v, gram, gain, geometry.start, cache.key[:rows], cache.value[:rows])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads}, fusion='{self.fusion}')"
