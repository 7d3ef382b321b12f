r"""Attention to atoms of which there are many images, by one score for all images of an atom."""
from __future__ import annotations

import torch
from torch import Tensor

from torch_geometric_inertial.neighbors.edges import Edges
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.pair_attention import KERNEL_SIZE, NEVER, DensePairAttention, EdgePairAttention
from torch_geometric_inertial.ops.segment import segment_index, segment_sum


class ImagePairAttention(DensePairAttention):
    r"""All pairs of atoms of each system, with the images of the second one folded into the bias,

    .. math:: B_{ij} = \ln \sum_T \varphi(r_{ijT}) \exp B(r_{ijT}) .

    Keys and values are those of the atom whichever image is seen, so this is softmax over all images (what
    :class:`EdgePairAttention` computes), with as many scores as pairs of atoms instead of pairs of images. Directions
    are summed over images likewise.

    Distances, directions, kinds and envelopes are those of the images, [E].

    Args:
        pos (Tensor): Positions [N, 3].
        types (Tensor): Indices of types [N].
        num_types (int): Types.
        packing (Packing): The systems.
        edges (Edges): Atoms and images; those of one pair of atoms stand together.
        cutoff (float): Largest distance of attention.
        offset (Tensor): The translation of each image [E, 3], Å.
    """
    def __init__(self, pos: Tensor, types: Tensor, num_types: int, packing: Packing, edges: Edges, cutoff: float,
                 offset: Tensor):
        self.packing, self.first_order = packing, not (pos.requires_grad or offset.requires_grad)
        self.small = packing.size[1] <= KERNEL_SIZE
        self.along = along = EdgePairAttention(pos, types, num_types, edges, cutoff, offset)
        self.distance, self.direction, self.kind = along.distance, along.direction, along.kind
        self.envelope = along.envelope
        pair, images = (edges.row * edges.num_nodes + edges.col).unique_consecutive(return_counts=True)
        row, col = pair // edges.num_nodes, pair % edges.num_nodes
        self.ptr = torch.cat([images.new_zeros(1), images.cumsum(0)])
        self.place = (packing.batch[row] * packing.size[1] + packing.slot[row]) * packing.size[1] + packing.slot[col]

    def inner(self) -> Tensor:
        return self.along.inner()

    def closest(self) -> Tensor:
        return self.along.closest()

    def scalar_sum(self, weight: Tensor) -> Tensor:
        return self.along.scalar_sum(weight)

    def vector_sum(self, weight: Tensor) -> Tensor:
        return self.along.vector_sum(weight)

    def _spread(self, x: Tensor, fill: float) -> Tensor:
        """[pairs, C] -> [B, n, n, C]."""
        b, n = self.packing.size
        return x.new_full((b * n * n, x.size(1)), fill).index_copy(0, self.place, x).view(b, n, n, -1)

    def bias(self, bias: Tensor, count: int) -> list[Tensor]:
        assert self.envelope is not None
        score = bias.to(self.distance.dtype)
        pair = segment_index(self.ptr, score.size(0))
        largest = score.new_full((self.ptr.numel() - 1, score.size(1)), -torch.inf).scatter_reduce(
            0, pair.unsqueeze(1).expand_as(score), score.detach(), 'amax')
        total = segment_sum((score - largest[pair]).exp() * self.envelope.unsqueeze(-1), self.ptr)
        gone = total == 0
        log = (total.masked_fill(gone, 1.0).log() + largest).masked_fill(gone, NEVER)
        table = self._spread(log, NEVER).unflatten(-1, (count, -1)).permute(3, 0, 4, 1, 2)
        return list(table.flatten(1, 2).contiguous().unbind(0))

    def field(self, weight: Tensor) -> Tensor:
        n = self.packing.size[1]
        summed = segment_sum(self.along.field(weight).flatten(1), self.ptr)
        return self._spread(summed, 0.0).unflatten(-1, (-1, 3)).permute(0, 3, 1, 4, 2).reshape(-1, 3 * n, n)
