r"""TorchMD-NET's equivariant transformer (Thölke & De Fabritiis, ICLR 2022, arXiv:2202.02541) as an instance of
two-stream attention along edges: weights are activations of scores, and values depend on the asking atom's vectors."""
from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_inputs import AtomInputs
from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.predictor_config import PredictorConfig
from torch_geometric_inertial.neighbors.edges import Edges
from torch_geometric_inertial.nn.edge_attention import edge_attention
from torch_geometric_inertial.nn.pair_attention import EdgePairAttention
from torch_geometric_inertial.nn.radial_basis import cosine_cutoff


@dataclass(frozen=True)
class TorchMDNetConfig(PredictorConfig):
    r"""Everything that defines a :class:`TorchMDNet`, beside the fields of
    :class:`~torch_geometric_inertial.models.predictor_config.PredictorConfig`. Radial functions are Gaussians of
    :math:`\exp(-\alpha r)`, as in PhysNet.

    Args:
        heads (int): Attention heads.
        vector_cutoff (bool): Values fade out at the cutoff, too. The published model has :obj:`False`, with which
            forces jump there.
    """
    cutoff: float = 5.0
    velocity: Literal['none'] = 'none'
    heads: int = 8
    vector_cutoff: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(at_least_one=('heads', ))
        self.check_heads_divide(self.heads)


class TorchMDNetLayer(nn.Module):
    r"""Attention with continuous filters (Eq. 5–10): with :math:`\alpha_{ij} = \mathrm{SiLU}(\sum_k q_{ik} k_{jk}
    D^K_{ijk})\,\varphi(r_{ij})` and :math:`m_i = \sum_j \alpha_{ij} V^1_j \circ D^1_{ij}`,

    .. math::
        s_i &\leftarrow s_i + O_1 m_i + O_2 m_i \circ \langle U_1 v_i, U_2 v_i \rangle \\
        v_i &\leftarrow v_i + O_3 m_i \circ U_3 v_i + \textstyle\sum_j v_j \circ V^2_j \circ D^2_{ij}
        + \hat r_{ij}\,V^3_j \circ D^3_{ij} .

    :math:`D` are SiLU layers of the radial functions. The bias of :math:`O` is added once, after the sum. Channels of
    :math:`V` and of its filters are ordered by heads, then parts 1 to 3.

    Args:
        channels (int): Width d.
        heads (int): Attention heads.
        num_kernels (int): Radial functions.
        vector_cutoff (bool): Whether :math:`\varphi` multiplies values instead of weights. (default: :obj:`True`)
    """
    def __init__(self, channels: int, heads: int, num_kernels: int, vector_cutoff: bool = True):
        super().__init__()
        self.heads, self.vector_cutoff = heads, vector_cutoff
        self.norm = nn.LayerNorm(channels)
        self.query, self.key = nn.Linear(channels, channels), nn.Linear(channels, channels)
        self.value = nn.Linear(channels, 3 * channels)
        self.key_filter, self.value_filter = nn.Linear(num_kernels, channels), nn.Linear(num_kernels, 3 * channels)
        self.mix = nn.Linear(channels, 3 * channels, bias=False)  # U
        self.out = nn.Linear(channels, 3 * channels)  # O

    def forward(self, s: Tensor, v: Tensor, edges: Edges, radial: Tensor, cutoff: Tensor, direction: Tensor) -> tuple:
        r"""
        Args:
            s, v: Scalars [N, d] and vectors [N, 3, d].
            edges: The pairs, i = j among them.
            radial: Radial functions [E, K].
            cutoff: The cutoff function [E].
            direction: From i to j [E, 3], zero for i = j.
        """
        silu, x = nn.functional.silu, self.norm(s)

        def by_heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.heads, -1))
        score = (by_heads(self.query(x))[edges.row] * by_heads(self.key(x))[edges.col]
                 * by_heads(silu(self.key_filter(radial)))).sum(-1)
        value = by_heads(self.value(x))[edges.col] * by_heads(silu(self.value_filter(radial)))  # [E, H, 3 d / H]
        if self.vector_cutoff:
            value = value * cutoff.view(-1, 1, 1)
        first, along, radially = (part.flatten(1) for part in value.chunk(3, dim=-1))
        weight = silu(score) if self.vector_cutoff else silu(score) * cutoff.unsqueeze(-1)
        m = edge_attention(first, edges, weight)
        o1, o2, o3 = self.out(m).chunk(3, dim=-1)
        u1, u2, u3 = self.mix(v).chunk(3, dim=-1)
        message = v[edges.col] * along.unsqueeze(1) + direction.unsqueeze(-1) * radially.unsqueeze(1)
        return (s + o1 + o2 * (u1 * u2).sum(1),
                v + o3.unsqueeze(1) * u3 + edge_attention(message, edges))


class TorchMDNet(AtomPredictor):
    r"""The equivariant transformer of TorchMD-NET.

    Args:
        config (TorchMDNetConfig, optional): The model; or give its fields as keywords.
    """
    config_class = TorchMDNetConfig

    def __init__(self, config: TorchMDNetConfig | None = None, **kwargs):
        c = TorchMDNetConfig.of(config, kwargs)
        super().__init__(c)
        d = c.channels
        self.embedding = nn.Embedding(len(c.elements), d)
        self.neighbor = nn.Embedding(len(c.elements), d)
        self.neighbor_filter, self.combine = nn.Linear(c.num_kernels, d), nn.Linear(2 * d, d)
        start = math.exp(-c.cutoff)
        self.mean = nn.Parameter(torch.linspace(start, 1, c.num_kernels))
        self.beta = nn.Parameter(torch.full((c.num_kernels, ), (2 / c.num_kernels * (1 - start)) ** -2))
        self.layers = nn.ModuleList(
            TorchMDNetLayer(d, c.heads, c.num_kernels, c.vector_cutoff) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(d)

    def encode(self, atoms: AtomInputs) -> tuple[Tensor, list[Tensor]]:
        c, pairs = self.config, atoms.pairs
        assert isinstance(pairs, EdgePairAttention)
        edges, distance = pairs.edges, pairs.distance
        cutoff = cosine_cutoff(distance, c.cutoff)
        decay = torch.exp(distance * (-5 / c.cutoff)).unsqueeze(-1)
        radial = cutoff.unsqueeze(-1) * torch.exp(-self.beta * (decay - self.mean).square())
        weight = self.neighbor_filter(radial) * (cutoff * pairs.inner()).unsqueeze(-1)
        around = edge_attention(weight * self.neighbor(atoms.types)[edges.col], edges)
        s = self.combine(torch.cat([self.embedding(atoms.types), around], dim=-1))
        s = self.add_labels(s, atoms)
        v = s.new_zeros(s.size(0), 3, s.size(1))
        for layer in self.layers:
            s, v = layer(s, v, edges, radial, cutoff, pairs.direction)
        return self.norm(s), [v]
