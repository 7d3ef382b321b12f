r"""The general core of two-stream networks: sums over neighbours whose values may depend on who asks."""
from __future__ import annotations

from torch import Tensor

from torch_geometric_inertial.nn.pairs import edge_weights
from torch_geometric_inertial.ops.edges import Edges
from torch_geometric_inertial.ops.segment import segment_sum

WEIGHTINGS = ('sum', 'softmax', 'softmax_count', 'silu')


def attend_along_edges(value: Tensor, edges: Edges, weighting: str = 'sum', score: Tensor | None = None,
                       envelope: Tensor | None = None) -> Tensor:
    r""":math:`\mathrm{out}_i = \sum_{j \in N(i)} w_{ij}\,\mathrm{Val}_i(j)` with a value given for each edge: it may
    depend on i, j and the edge.

    GeoMFormer has softmax weights and values of j alone (and never forms values of edges), PaiNN weights of 1, and
    TorchMD-NET the activation of scores.

    Args:
        value: :math:`\mathrm{Val}_i(j)` [E, ..., C].
        edges: The pairs.
        weighting: :obj:`'sum'`, weights of 1, or one of :func:`~torch_geometric_inertial.nn.pairs.edge_weights`.
        score: [E, H], with H heads that share C; not read for :obj:`'sum'`.
        envelope: Cutoff function of the weights [E].
    """
    if weighting == 'sum':
        return segment_sum(value if envelope is None else value * envelope.view(-1, *[1] * (value.dim() - 1)),
                           edges.ptr)
    weight = edge_weights(score, edges, weighting, envelope)
    weight = weight.view(weight.size(0), *[1] * (value.dim() - 2), weight.size(1), 1)
    return segment_sum((value.unflatten(-1, (weight.size(-2), -1)) * weight).flatten(-2), edges.ptr)
