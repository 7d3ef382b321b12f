r"""Distances as biases of attention scores."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from torch_geometric_inertial.nn.pair_attention import PairAttention
from torch_geometric_inertial.nn.radial_basis import GaussianBasis

NUM_KINDS = 4  #: Attentions of a block: within the scalars, from vectors to scalars, within the vectors, to vectors.


class EncodedPairs(NamedTuple):
    r"""What the blocks are told of the pairs, in the forms that :class:`PairAttention` takes.

    Attributes:
        basis (Tensor): Gaussians of the distances [P, K].
        bias (list): One bias for each kind of attention.
        field (Tensor, optional): Radial weights of directions.
    """
    basis: Tensor
    bias: list[Tensor]
    field: Tensor | None


class StructuralEncoding(nn.Module):
    r""":math:`B_{ij} = \mathrm{GELU}(b(r_{ij})\,W_1)\,W_2`, one number per head and kind of attention (GeoMFormer,
    Sec. 4), computed once for all layers. The paper writes one column of :math:`W_2` for all heads; the public code of
    its predecessors has one per head.

    Args:
        basis (GaussianBasis): Of distances and pairs of types.
        heads (int): Attention heads H.
        directional (bool): Also one radial weight per head for directions. (default: :obj:`False`)
    """
    def __init__(self, basis: GaussianBasis, heads: int, directional: bool = False):
        super().__init__()
        size = basis.num_kernels
        self.basis, self.hidden = basis, nn.Linear(size, size)
        self.out = nn.Linear(size, NUM_KINDS * heads)
        self.radial = nn.Linear(size, heads) if directional else None

    def forward(self, pairs: PairAttention) -> EncodedPairs:
        basis = self.basis(pairs.distance, pairs.kind)
        hidden = nn.functional.gelu(self.hidden(basis))
        return EncodedPairs(basis, pairs.bias(self.out(hidden), NUM_KINDS),
                            None if self.radial is None else pairs.field(self.radial(hidden)))
