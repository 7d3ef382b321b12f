r"""The general core of two-stream networks: sums over neighbors whose values may depend on the receiving atom."""
from __future__ import annotations

from torch import Tensor

from torch_geometric_inertial.neighbors.edges import Edges
from torch_geometric_inertial.ops.segment import segment_sum


def edge_attention(value: Tensor, edges: Edges, weight: Tensor | None = None) -> Tensor:
    r""":math:`\mathrm{out}_i = \sum_{j \in N(i)} w_{ij}\,\mathrm{Val}_i(j)` with one value per edge, which may
    depend on i, j and the edge.

    Weights are 1 in PaiNN and the activation of scores in TorchMD-NET. GeoMFormer, whose weights are softmax and whose
    values depend on j alone, never forms values per edge: see
    :class:`~torch_geometric_inertial.nn.pair_attention.PairAttention`.

    Args:
        value: :math:`\mathrm{Val}_i(j)` [E, ..., C].
        edges: The pairs.
        weight: :math:`w_{ij}` [E, H], with H heads that share C; 1 if not given.
    """
    if weight is not None:
        weight = weight.view(weight.size(0), *[1] * (value.dim() - 2), weight.size(1), 1)
        value = (value.unflatten(-1, (weight.size(-2), -1)) * weight).flatten(-2)
    return segment_sum(value, edges.ptr)
