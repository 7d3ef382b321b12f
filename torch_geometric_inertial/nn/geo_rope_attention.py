r"""Self-attention whose score knows where the atoms are: rotary on coordinates plus gained Nyström kernels."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry, PackedGeometry, TokenGeometry
from torch_geometric_inertial.nn.kv_cache import GeometryCache, KeyValueCache, append_tokens, own_memory
from torch_geometric_inertial.nn.norm import make_norm
from torch_geometric_inertial.nn.nystrom import GaussianKernel, NystromKernel
from torch_geometric_inertial.ops import georope_attention, georope_decode, rope_rotate
from torch_geometric_inertial.ops.library import has_kernel


class GeoRoPEAttention(nn.Module):
    r"""Multi-head self-attention with geometric rotary position encoding (GeoRoPE; InertialAR, arXiv:2510.27497).

    .. math::
        S_{ij} = \frac{(R(p_i) q_i) \cdot (R(p_j) k_j)}{\sqrt D} + \sum_s g_{h,s}\, \phi_s(p_i) \cdot \phi_s(p_j),
        \quad \mathrm{out}_i = \sum_{j \le i} \mathrm{softmax}_j(S_{ij})\, v_j

    The first term depends on :math:`p_i - p_j` alone; the second is a learned mixture of Gaussians of the distance. A
    geometry with :class:`~torch_geometric_inertial.nn.nystrom.GaussianKernel` takes the Gaussian itself in place of the
    features' product.

    Args:
        channels (int): Size of a token, a multiple of :obj:`2 * heads`.
        heads (int): Number of heads :math:`H`.
        fusion (str): :obj:`'score'` adds both terms in every head; :obj:`'heads'` is the arrangement of the released
            InertialAR: rotary in half of the heads, and in the other half no projection, q = k = v = the raw slice of
            the token. (default: :obj:`'score'`)
        causal (bool): Whether token i sees j ≤ i alone. (default: :obj:`True`)
        dropout (float): Dropout of attention weights in training. (default: :obj:`0.0`)
        qk_norm (bool): Normalize queries and keys. (default: :obj:`False`)
        norm (str): How, see :func:`~torch_geometric_inertial.nn.norm.make_norm`. (default: :obj:`'rms'`)
        geometry (GeoRoPEGeometry, optional): Shared by the layers of one model; an own one if :obj:`None`.
        **kwargs: Of :class:`~torch_geometric_inertial.nn.NystromFeatures`.

    Shapes:
        - **input:** tokens [T, C], positions [T, 3] (Å), offsets ptr [B + 1]
        - **output:** tokens [T, C]

    Raises:
        ValueError: If :obj:`channels` does not divide, :obj:`fusion` is unknown, or shapes do not match.
    """
    def __init__(self, channels: int, heads: int, *, fusion: str = 'score', causal: bool = True, dropout: float = 0.0,
                 qk_norm: bool = False, norm: str = 'rms', geometry: GeoRoPEGeometry | None = None, **kwargs):
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
            kernel = None if fusion == 'heads' else NystromKernel(**kwargs)
            geometry = self.own_geometry = GeoRoPEGeometry(channels // heads, kernel, causal)
        self._geometry = (geometry, )  # in a tuple, so that a shared one is its owner's alone in the state
        projected = channels // 2 if fusion == 'heads' else channels
        self.qkv = nn.Linear(projected, 3 * projected, bias=False)
        self.out = nn.Linear(channels, channels, bias=False)
        self.q_norm, self.k_norm = (
            make_norm(norm, channels // heads) if qk_norm else nn.Identity() for _ in range(2))
        has_gain = fusion == 'score' and geometry.kernel is not None
        self.gain = nn.Parameter(torch.empty(heads, len(geometry.kernel.widths))) if has_gain else None
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
                  geometry: GeometryCache | None = None) -> KeyValueCache:
        r"""An empty cache for :obj:`batch_size` sequences of at most :obj:`capacity` tokens."""
        shape = (batch_size, capacity, self.heads, self.channels // self.heads)
        geometry = self.geometry.new_cache(batch_size, capacity, like) if geometry is None else geometry
        return KeyValueCache(like.new_zeros(shape), like.new_zeros(shape), geometry)

    def forward(self, x: Tensor, pos: Tensor, ptr: Tensor, cache: KeyValueCache | None = None,
                geometry: TokenGeometry | PackedGeometry | None = None) -> Tensor:
        r"""
        Args:
            x (Tensor): Tokens [T, C], packed: sequence b is :obj:`x[ptr[b]:ptr[b + 1]]`.
            pos (Tensor): Positions [T, 3] in Å, float32 or float64.
            ptr (Tensor): Offsets [B + 1].
            cache (KeyValueCache, optional): Keys and values of the tokens before; these tokens are added to it.
            geometry (TokenGeometry, optional): Of these positions, where another layer has computed it already.
        """
        if x.dim() != 2 or x.size(1) != self.channels or pos.shape != (x.size(0), 3):
            raise ValueError(f"expected 'x' [T, {self.channels}] and 'pos' [T, 3] "
                             f"(got {tuple(x.shape)} and {tuple(pos.shape)})")
        if geometry is None:
            geometry = self.geometry(pos, ptr, None if cache is None else cache.geometry)
        if isinstance(geometry, PackedGeometry) and self._is_fused(x):
            return self.out(self._attend(x, geometry).flatten(-2))
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

    def _is_fused(self, x: Tensor) -> bool:
        """Whether one compiled operator does what this layer does: no dropout, no kernel but Nyström's."""
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

    def _attend(self, x: Tensor, geometry: PackedGeometry) -> Tensor:
        """Attention [T, H, D] among the tokens of whole sequences, in one operator that also rotates."""
        partial = self.fusion == 'heads'  # half of the heads rotate, which the operator does not do
        q, k, v = self._qkv(x, geometry.phase if partial else None)
        owner = self.geometry
        freqs, scale_ptr = owner.freqs[:0] if partial else owner.freqs, owner.scale_ptr
        gain: Tensor
        features, gram = None, None
        if self.gain is None:
            gain, scale_ptr = q.new_empty(self.heads, 0), scale_ptr[:1]
        else:
            gain, gram = self.gain, geometry.shared_gram
            features = geometry.features if gram is None else None
        return georope_attention(q.to(v.dtype), k.to(v.dtype), v, geometry.pos, features, gain, scale_ptr, freqs,
                                 geometry.ptr, owner.causal, gram)[0]

    def _decode(self, q: Tensor, k: Tensor, v: Tensor, cache: KeyValueCache, geometry: TokenGeometry) -> Tensor:
        rows, num_keys = q.size(0), geometry.mask.size(-1)
        wide = torch.promote_types(q.dtype, torch.float32)
        if self.gain is None:
            gain, gram = q.new_empty(self.heads, 0, dtype=wide), q.new_empty(rows, 0, num_keys, dtype=wide)
        else:
            gain, gram = self.gain.to(wide), geometry.gram.squeeze(2).to(wide)
        cache.key, cache.value = own_memory(cache.key), own_memory(cache.value)
        return georope_decode(q, k, v, gram, gain, geometry.start, cache.key[:rows], cache.value[:rows])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.channels}, heads={self.heads}, fusion='{self.fusion}')"
