r"""Attention along the edges of a graph, without the memory of edges times channels.

:func:`edge_dot` and :func:`edge_sum` are each other's derivatives, so both have derivatives of every order that keep
nothing but node features and one number an edge and head.
"""
from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from torch_geometric_inertial.ops.segment import segment_sum

CHUNK = 1 << 22  #: Numbers that are gathered at a time.


class Edges:
    r"""Ordered pairs :math:`(i, j)`, sorted by :math:`i`.

    Args:
        row (Tensor): The receiving nodes i [E], not decreasing.
        col (Tensor): The sending nodes j [E].
        num_nodes (int): Nodes N.

    Attributes:
        ptr (Tensor): Offsets [N + 1] of the edges of each receiving node.
    """
    def __init__(self, row: Tensor, col: Tensor, num_nodes: int):
        self.row, self.col, self.num_nodes = row, col, num_nodes
        self.ptr = torch.searchsorted(row, torch.arange(num_nodes + 1, device=row.device))

    @cached_property
    def order(self) -> Tensor:
        r"""The edges [E] in the order of their sending nodes."""
        return self.col.argsort(stable=True)

    @cached_property
    def transposed(self) -> Edges:
        r"""The edges the other way round, in :obj:`order`."""
        out = Edges(self.col[self.order], self.row[self.order], self.num_nodes)
        out.__dict__.update(order=self.order.argsort(), transposed=self)
        return out

    def chunks(self, width: int) -> list[tuple[int, int, int, int]]:
        r"""Runs of whole nodes with about :data:`CHUNK` numbers: (first node, last, first edge, last)."""
        if self.row.numel() * width <= CHUNK:
            return [(0, self.num_nodes, 0, self.row.numel())]
        targets = torch.arange(0, self.row.numel(), max(CHUNK // width, 1), device=self.row.device)
        nodes = [0, *torch.searchsorted(self.ptr, targets[1:]).unique().tolist(), self.num_nodes]
        edges = self.ptr[torch.tensor(nodes, device=self.ptr.device)].tolist()
        return [run for run in zip(nodes, nodes[1:], edges, edges[1:], strict=False) if run[0] < run[1]]


def edge_dot(q: Tensor, k: Tensor, edges: Edges) -> Tensor:
    r""":math:`\langle q_i^h, k_j^h \rangle` of [N, H, D] and [N, H, D] for each edge and head: [E, H]."""
    return _EdgeDot.apply(q, k, edges)


def edge_sum(w: Tensor, v: Tensor, edges: Edges) -> Tensor:
    r""":math:`\sum_j w_{ij}^h v_j^h` of [E, H] and [N, H, D] for each receiving node: [N, H, D]."""
    return _EdgeSum.apply(w, v, edges)


class _EdgeDot(torch.autograd.Function):
    """Not a registered operator with `register_autograd`: a schema cannot hold an `Edges`, whose transpose is made once
    for all layers."""
    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(q, k)
        ctx.edges = edges
        parts = [(q[edges.row[a:b]] * k[edges.col[a:b]]).sum(-1) for _, _, a, b in edges.chunks(q[0].numel())]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        q, k = ctx.saved_tensors
        back = ctx.edges.transposed
        return edge_sum(grad, k, ctx.edges), edge_sum(grad.index_select(0, ctx.edges.order), q, back), None


class _EdgeSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, w: Tensor, v: Tensor, edges: Edges) -> Tensor:
        ctx.save_for_backward(w, v)
        ctx.edges = edges
        parts = [segment_sum(w[a:b].unsqueeze(-1) * v[edges.col[a:b]], edges.ptr[i:j + 1] - edges.ptr[i])
                 for i, j, a, b in edges.chunks(v[0].numel())]
        return torch.cat(parts)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        w, v = ctx.saved_tensors
        back = ctx.edges.transposed
        return edge_dot(grad, v, ctx.edges), edge_sum(w.index_select(0, ctx.edges.order), grad, back), None
