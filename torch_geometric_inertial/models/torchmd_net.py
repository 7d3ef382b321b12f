r"""TorchMD-NET's equivariant transformer (Thölke & De Fabritiis, ICLR 2022, arXiv:2202.02541) as an instance of
two-stream attention along edges: weights are activations of scores, and values depend on the asking atom's vectors."""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_predictor import AtomPredictor, Atoms, HeadConfig
from torch_geometric_inertial.nn.pairs import EdgePairs
from torch_geometric_inertial.nn.query_attention import attend_along_edges
from torch_geometric_inertial.nn.radial_basis import cosine_cutoff
from torch_geometric_inertial.ops.edges import Edges


@dataclass(frozen=True)
class TorchMDNetConfig(HeadConfig):
    r"""Everything that defines a :class:`TorchMDNet`, and the fields of
    :class:`~torch_geometric_inertial.models.atom_predictor.HeadConfig`.

    Args:
        elements (tuple): Atomic numbers.
        channels (int): Width d.
        heads (int): Attention heads.
        num_layers (int): Layers.
        num_kernels (int): Radial functions, Gaussians of :math:`\exp(-\alpha r)` as in PhysNet.
        cutoff (float): Largest distance (Å) of two atoms that see each other.
        vector_cutoff (bool): Values fade out at the cutoff, too; without it forces jump there.
        neighbour_embedding (bool): Scalars start with a sum over neighbours, too.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    channels: int = 128
    heads: int = 8
    num_layers: int = 6
    num_kernels: int = 32
    cutoff: float = 5.0
    vector_cutoff: bool = True
    neighbour_embedding: bool = True

    def __post_init__(self):
        object.__setattr__(self, 'elements', tuple(self.elements))
        for name in ('channels', 'heads', 'num_layers', 'num_kernels'):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {getattr(self, name)})")
        if self.channels % self.heads:
            raise ValueError(f"'channels' must be a multiple of heads = {self.heads} (got {self.channels})")
        if not 0 < self.cutoff < math.inf:
            raise ValueError(f"'cutoff' must be positive and finite (got {self.cutoff})")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"'elements' must be distinct integers (got {self.elements})")
        self.check_heads()

    def to_dict(self) -> dict:
        return asdict(self)


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
        m = attend_along_edges(first, edges, 'silu', score, None if self.vector_cutoff else cutoff)
        o1, o2, o3 = self.out(m).chunk(3, dim=-1)
        u1, u2, u3 = self.mix(v).chunk(3, dim=-1)
        message = v[edges.col] * along.unsqueeze(1) + direction.unsqueeze(-1) * radially.unsqueeze(1)
        return (s + o1 + o2 * (u1 * u2).sum(1),
                v + o3.unsqueeze(1) * u3 + attend_along_edges(message, edges))


class TorchMDNet(AtomPredictor):
    r"""The equivariant transformer of TorchMD-NET.

    Args:
        config (TorchMDNetConfig, optional): The model; or give its fields as keywords.
    """
    config_class = TorchMDNetConfig

    def __init__(self, config: TorchMDNetConfig | None = None, **kwargs):
        if config is not None and kwargs:
            raise ValueError(f"give 'config' or its fields, not both (got {sorted(kwargs)})")
        unknown = set(kwargs) - {f.name for f in fields(TorchMDNetConfig)}
        if unknown:
            raise ValueError(f"'{sorted(unknown)[0]}' is not a field of TorchMDNetConfig")
        c = TorchMDNetConfig(**kwargs) if config is None else config
        super().__init__(c)
        d = c.channels
        self.embedding = nn.Embedding(len(c.elements), d)
        if c.neighbour_embedding:
            self.neighbour = nn.Embedding(len(c.elements), d)
            self.neighbour_filter, self.combine = nn.Linear(c.num_kernels, d), nn.Linear(2 * d, d)
        start = math.exp(-c.cutoff)
        self.mean = nn.Parameter(torch.linspace(start, 1, c.num_kernels))
        self.beta = nn.Parameter(torch.full((c.num_kernels, ), (2 / c.num_kernels * (1 - start)) ** -2))
        self.layers = nn.ModuleList(
            TorchMDNetLayer(d, c.heads, c.num_kernels, c.vector_cutoff) for _ in range(c.num_layers))
        self.norm = nn.LayerNorm(d)

    def encode(self, atoms: Atoms) -> tuple[Tensor, list[Tensor]]:
        c, pairs = self.config, atoms.pairs
        assert isinstance(pairs, EdgePairs)
        edges, distance = pairs.edges, pairs.distance
        cutoff = cosine_cutoff(distance, c.cutoff)
        decay = torch.exp(distance * (-5 / c.cutoff)).unsqueeze(-1)
        radial = cutoff.unsqueeze(-1) * torch.exp(-self.beta * (decay - self.mean).square())
        s = self.embedding(atoms.types)
        if c.neighbour_embedding:
            weight = self.neighbour_filter(radial) * (cutoff * pairs.inner()).unsqueeze(-1)
            around = attend_along_edges(weight * self.neighbour(atoms.types)[edges.col], edges)
            s = self.combine(torch.cat([s, around], dim=-1))
        v = s.new_zeros(s.size(0), 3, s.size(1))
        for layer in self.layers:
            s, v = layer(s, v, edges, radial, cutoff, pairs.direction)
        return self.norm(s), [v]
