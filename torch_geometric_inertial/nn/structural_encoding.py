r"""Distances as biases of attention scores."""
from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from torch_geometric_inertial.nn.pairs import Pairs
from torch_geometric_inertial.nn.radial_basis import GaussianBasis


class Encoded(NamedTuple):
    r"""What the blocks are told of the pairs, in the forms that :class:`Pairs` takes.

    Attributes:
        basis (Tensor): Gaussians of the distances [P, K].
        bias (list): For each layer one bias for each kind of attention.
        field (Tensor, optional): Radial weights of directions.
    """
    basis: Tensor
    bias: list[list[Tensor]]
    field: Tensor | None


class StructuralEncoding(nn.Module):
    r""":math:`B_{ij} = \mathrm{GELU}(b(r_{ij})\,W_1)\,W_2`, one number a head and a kind of attention (GeoMFormer,
    Sec. 4), computed once for all layers.

    The paper has one column of :math:`W_2` for all heads (:obj:`shared_heads`).

    Args:
        basis (GaussianBasis): Of distances and pairs of types.
        heads (int): Attention heads H.
        num_kinds (int): Kinds of attention.
        num_layers (int): Layers with a :math:`W_2` of their own; 1 if they share it. (default: :obj:`1`)
        shared_heads (bool): One number for all heads. (default: :obj:`False`)
        directional (bool): Also a radial weight a head for directions. (default: :obj:`False`)
        biased (bool): Whether there are biases; else they are zero. (default: :obj:`True`)
    """
    def __init__(self, basis: GaussianBasis, heads: int, num_kinds: int, num_layers: int = 1,
                 shared_heads: bool = False, directional: bool = False, biased: bool = True):
        super().__init__()
        size = basis.num_kernels
        self.heads, self.num_kinds, self.shared_heads = heads, num_kinds, shared_heads
        self.basis, self.hidden = basis, nn.Linear(size, size)
        self.out = nn.ModuleList(
            nn.Linear(size, num_kinds * (1 if shared_heads else heads)) for _ in range(num_layers if biased else 0))
        self.radial = nn.Linear(size, heads) if directional else None

    def forward(self, pairs: Pairs) -> Encoded:
        basis = self.basis(pairs.distance, pairs.kind)
        hidden = nn.functional.gelu(self.hidden(basis))
        bias = []
        if not self.out:
            bias.append(pairs.bias(basis.new_zeros(*basis.shape[:-1], self.num_kinds * self.heads), self.num_kinds))
        for out in self.out:
            b = out(hidden)
            bias.append(pairs.bias(b.repeat_interleave(self.heads, -1) if self.shared_heads else b, self.num_kinds))
        return Encoded(basis, bias, None if self.radial is None else pairs.field(self.radial(hidden)))
