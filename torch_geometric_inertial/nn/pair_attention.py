r"""Pairs of atoms and the attention along them: as padded rectangles for small systems, as edges for large ones."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from torch_geometric_inertial.neighbors.edges import Edges, edge_dot, edge_sum
from torch_geometric_inertial.nn.directions import directions, safe_length
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.radial_basis import smooth_cutoff
from torch_geometric_inertial.ops.library import has_kernel
from torch_geometric_inertial.ops.pair_attention import pair_attention
from torch_geometric_inertial.ops.segment import segment_sum

FUSED_SIZE = 48  #: Molecules of that many atoms gain from PyTorch's fused attention.
KERNEL_SIZE = 64  #: Molecules of more atoms gain from PyTorch's matrix products.
NEVER = -1e30  #: A score that gives no weight; finite, for rows of padding that have nothing but such scores.


class PairAttention:
    r"""Ordered pairs :math:`(i, j)` of atoms of one molecule, :math:`i = j` among them, in a layout P.

    Attributes:
        distance (Tensor): :math:`\|r_j - r_i\|` [P], Å.
        direction (Tensor): :math:`\hat r_{ij}` from i to j [P, 3], zero for :math:`i = j`.
        kind (Tensor): Index of the pair of types [P].
        envelope (Tensor, optional): :math:`\varphi(r_{ij})` [P]; :obj:`None` without a cutoff.
    """
    distance: Tensor
    direction: Tensor
    kind: Tensor
    envelope: Tensor | None

    def bias(self, bias: Tensor, count: int) -> list[Tensor]:
        r"""Makes :obj:`count` biases of scores out of [P, count · H], in the form that :meth:`attend` takes."""
        raise NotImplementedError

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, heads: int,
               dropout: float = 0.0) -> Tensor:
        r"""Multi-head attention, with A features per channel.

        .. math:: \mathrm{out}_i = \sum_j \mathrm{softmax}_j(c \langle q_i, k_j \rangle + B_{ij} + \ln \varphi_{ij}) v_j

        Args:
            q, k, v: [N, A, C]; A is 1 for scalars and 3 for vectors, which scores sum over.
            bias: One of :meth:`bias`.
            scale: The factor c.
            heads: H, which divides C.
            dropout: Of the attention weights.
        """
        raise NotImplementedError

    def scalar_sum(self, weight: Tensor) -> Tensor:
        r""":math:`\sum_{j \ne i} \varphi_{ij} w_{ij}` of [P, K]: [N, K]."""
        raise NotImplementedError

    def vector_sum(self, weight: Tensor) -> Tensor:
        r""":math:`\sum_j \varphi_{ij} \hat r_{ij} \otimes w_{ij}` of [P, K]: [N, 3, K]."""
        raise NotImplementedError

    def field(self, weight: Tensor) -> Tensor:
        r"""Puts :math:`\varphi_{ij} \hat r_{ij} w_{ij}` of [P, H] into the form that :meth:`sum_field` takes."""
        raise NotImplementedError

    def sum_field(self, field: Tensor, u: Tensor, heads: int) -> Tensor:
        r""":math:`\sum_j \varphi_{ij} w_{ij}^h \hat r_{ij} \otimes u_j^h` of [N, C]: [N, 3, C]."""
        raise NotImplementedError

    def closest(self) -> Tensor:
        r"""The smallest distance between two atoms; infinite if there are no two."""
        raise NotImplementedError

    def inner(self) -> Tensor:
        r"""Which pairs are two atoms and no padding [P]."""
        raise NotImplementedError


class DensePairAttention(PairAttention):
    r"""All pairs of each molecule, [B, n, n] with padding.

    Args:
        pos (Tensor): Positions [N, 3].
        types (Tensor): Indices of types [N].
        num_types (int): Types.
        packing (Packing): The molecules.
        cutoff (float, optional): Largest distance of attention.
    """
    def __init__(self, pos: Tensor, types: Tensor, num_types: int, packing: Packing, cutoff: float | None = None):
        self.packing, self.first_order = packing, not pos.requires_grad
        padded = packing.pad(pos)
        offset = padded.unsqueeze(1) - padded.unsqueeze(2)
        self.distance, self.direction = safe_length(offset), directions(offset)
        padded_types = packing.pad(types)
        self.kind = padded_types.unsqueeze(2) * num_types + padded_types.unsqueeze(1)
        self.envelope = None if cutoff is None else smooth_cutoff(self.distance, cutoff)
        self.small = packing.size[1] <= KERNEL_SIZE  # a compiled model has no guard on the size itself
        self.mask = None if packing.uniform else packing.mask()

    def inner(self) -> Tensor:
        inner = ~torch.eye(self.packing.size[1], dtype=torch.bool, device=self.distance.device)
        return inner.expand_as(self.distance) if self.mask is None else \
            inner & self.mask.unsqueeze(1) & self.mask.unsqueeze(2)

    def closest(self) -> Tensor:
        return self.distance.detach().masked_fill(~self.inner(), math.inf).amin()

    def bias(self, bias: Tensor, count: int) -> list[Tensor]:
        out = bias.unflatten(-1, (count, -1)).permute(3, 0, 4, 1, 2)
        if self.envelope is not None:
            gone = self.envelope == 0
            log = self.envelope.masked_fill(gone, 1.0).log().masked_fill(gone, NEVER)
            out = out + log.unsqueeze(1)
        if self.mask is not None:
            out = out.masked_fill(~self.mask[:, None, None], NEVER)
        return list(out.flatten(1, 2).contiguous().unbind(0))

    def _heads_first(self, x: Tensor, heads: int) -> Tensor:
        b, n = self.packing.size
        x = self.packing.pad(x).view(b, n, x.size(1), heads, -1)
        return x.permute(0, 3, 1, 2, 4).reshape(b * heads, n, -1)

    def _heads_last(self, x: Tensor, heads: int, parts: int) -> Tensor:
        b, n = self.packing.size
        x = x.view(b, heads, n, parts, -1).permute(0, 2, 3, 1, 4)
        return self.packing.unpad(x.reshape(b, n, parts, -1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, heads: int,
               dropout: float = 0.0) -> Tensor:
        parts = q.size(1)
        wide = q.dtype == k.dtype == v.dtype == bias.dtype and q.dtype in (torch.float32, torch.float64)
        if self.small and dropout == 0 and wide and has_kernel('pair_attention', q):
            return pair_attention(q, k, v, bias, self.packing.ptr, scale, heads)
        q, k, v = (self._heads_first(x, heads) for x in (q, k, v))
        if self.first_order and self.packing.size[1] >= FUSED_SIZE:  # it has no second derivative
            q, k, v, mask = (x.unflatten(0, (-1, heads)) for x in (q, k, v, bias.to(q.dtype)))
            out = nn.functional.scaled_dot_product_attention(q, k, v, mask, dropout, scale=scale)
        else:
            weight = torch.baddbmm(bias.to(q.dtype), q, k.mT, alpha=scale).softmax(-1)
            out = (nn.functional.dropout(weight, dropout) if dropout > 0 else weight).to(v.dtype) @ v
        return self._heads_last(out, heads, parts)

    def _weighed(self, weight: Tensor) -> Tensor:
        if self.envelope is not None:
            weight = weight * self.envelope.unsqueeze(-1)
        return weight.masked_fill(~self.inner().unsqueeze(-1), 0.0)

    def scalar_sum(self, weight: Tensor) -> Tensor:
        return self.packing.unpad(self._weighed(weight).sum(2))

    def vector_sum(self, weight: Tensor) -> Tensor:
        return self.packing.unpad(self.direction.mT @ self._weighed(weight))

    def field(self, weight: Tensor) -> Tensor:
        n = self.packing.size[1]
        field = self._weighed(weight).unsqueeze(-1) * self.direction.unsqueeze(3)  # [B, n, n, H, 3]
        return field.permute(0, 3, 1, 4, 2).reshape(-1, 3 * n, n)

    def sum_field(self, field: Tensor, u: Tensor, heads: int) -> Tensor:
        return self._heads_last(field @ self._heads_first(u.unsqueeze(1), heads), heads, 3)


class EdgePairAttention(PairAttention):
    r"""Given pairs, packed [E]: memory grows with their number.

    Args:
        pos (Tensor): Positions [N, 3].
        types (Tensor): Indices of types [N].
        num_types (int): Types.
        edges (Edges): The pairs; each atom with itself belongs to them.
        cutoff (float, optional): Largest distance of attention.
        offset (Tensor, optional): What to add to :math:`r_j - r_i` [E, 3], Å, such as a translation of the lattice.
    """
    def __init__(self, pos: Tensor, types: Tensor, num_types: int, edges: Edges, cutoff: float | None = None,
                 offset: Tensor | None = None):
        self.edges = edges
        apart = pos.index_select(0, edges.col) - pos.index_select(0, edges.row)
        if offset is not None:
            apart = apart + offset
        self.distance, self.direction = safe_length(apart), directions(apart)
        self.kind = types[edges.row] * num_types + types[edges.col]
        self.envelope = None if cutoff is None else smooth_cutoff(self.distance, cutoff)
        self.own = edges.row == edges.col
        if offset is not None:
            self.own = self.own & (offset == 0).all(1)

    def inner(self) -> Tensor:
        return ~self.own

    def closest(self) -> Tensor:
        distance = self.distance.detach()[~self.own]
        return distance.amin() if distance.numel() > 0 else self.distance.new_tensor(math.inf)

    def others(self) -> tuple[Edges, Tensor, Tensor]:
        r"""The pairs of two atoms, their distances and directions."""
        keep = (~self.own).nonzero().squeeze(1)
        edges = Edges(self.edges.row[keep], self.edges.col[keep], self.edges.num_nodes)
        return edges, self.distance[keep], self.direction[keep]

    def bias(self, bias: Tensor, count: int) -> list[Tensor]:
        return list(bias.chunk(count, dim=-1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor, scale: float, heads: int,
               dropout: float = 0.0) -> Tensor:
        count, parts, channels = q.shape

        def heads_first(x: Tensor) -> Tensor:
            return x.view(count, parts, heads, -1).transpose(1, 2).reshape(count, heads, -1)

        score = edge_dot(heads_first(q), heads_first(k), self.edges) * scale + bias
        weight = edge_softmax(score, self.edges, self.envelope)
        out = edge_sum(nn.functional.dropout(weight, dropout) if dropout > 0 else weight,
                       heads_first(v).to(weight.dtype), self.edges)
        return out.view(count, heads, parts, -1).transpose(1, 2).reshape(count, parts, channels)

    def _weighed(self, weight: Tensor) -> Tensor:
        if self.envelope is not None:
            weight = weight * self.envelope.unsqueeze(-1)
        return weight.masked_fill(self.own.unsqueeze(-1), 0.0)

    def scalar_sum(self, weight: Tensor) -> Tensor:
        return segment_sum(self._weighed(weight), self.edges.ptr)

    def vector_sum(self, weight: Tensor) -> Tensor:
        weight = self._weighed(weight)
        return torch.stack([segment_sum(weight * self.direction[:, a:a + 1], self.edges.ptr) for a in range(3)], dim=1)

    def field(self, weight: Tensor) -> Tensor:
        return self._weighed(weight).unsqueeze(-1) * self.direction.unsqueeze(1)  # [E, H, 3]

    def sum_field(self, field: Tensor, u: Tensor, heads: int) -> Tensor:
        u = u.view(u.size(0), heads, -1).to(field.dtype)
        return torch.stack([edge_sum(field[..., a], u, self.edges).flatten(1) for a in range(3)], dim=1)


def edge_softmax(score: Tensor, edges: Edges, envelope: Tensor | None = None) -> Tensor:
    r"""Softmax [E, H] of scores [E, H] over the pairs of each receiving atom; an envelope :math:`\varphi` [E] is a
    factor of every weight before they are normalized."""
    index = edges.row.unsqueeze(-1).expand_as(score)
    largest = score.new_full((edges.num_nodes, score.size(1)), -math.inf)
    largest = largest.scatter_reduce(0, index, score.detach(), 'amax')
    weight = (score - largest[edges.row]).exp()
    if envelope is not None:
        weight = weight * envelope.unsqueeze(-1)
    return weight / segment_sum(weight, edges.ptr)[edges.row]
