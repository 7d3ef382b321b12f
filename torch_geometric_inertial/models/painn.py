r"""PaiNN (Schütt et al., ICML 2021, arXiv:2102.03150) as an instance of two-stream attention along edges: all weights
are 1, values read the sender, and there is no attention within the vectors or from vectors to scalars."""
from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_predictor import AtomPredictor, Atoms, HeadConfig
from torch_geometric_inertial.nn.pairs import EdgePairs
from torch_geometric_inertial.nn.query_attention import WEIGHTINGS, attend_along_edges
from torch_geometric_inertial.nn.radial_basis import cosine_cutoff
from torch_geometric_inertial.ops.edges import Edges


@dataclass(frozen=True)
class PaiNNConfig(HeadConfig):
    r"""Everything that defines a :class:`PaiNN`, and the fields of
    :class:`~torch_geometric_inertial.models.atom_predictor.HeadConfig`.

    Args:
        elements (tuple): Atomic numbers.
        channels (int): Width F.
        num_layers (int): Layers.
        num_kernels (int): Radial functions :math:`\sin(n \pi r / r_c) / r`.
        cutoff (float): Largest distance (Å) of two atoms that see each other.
        norm_eps (float): Under the root of the length of vectors.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    channels: int = 128
    num_layers: int = 3
    num_kernels: int = 20
    cutoff: float = 5.0
    norm_eps: float = 1e-8

    def __post_init__(self):
        object.__setattr__(self, 'elements', tuple(self.elements))
        for name in ('channels', 'num_layers', 'num_kernels'):
            if getattr(self, name) < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {getattr(self, name)})")
        for name in ('cutoff', 'norm_eps'):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"'{name}' must be positive and finite (got {getattr(self, name)})")
        if not self.elements or len(set(self.elements)) != len(self.elements):
            raise ValueError(f"'elements' must be distinct integers (got {self.elements})")
        self.check_heads()

    def to_dict(self) -> dict:
        return asdict(self)


class PaiNNLayer(nn.Module):
    r"""The message (Eq. 7, 8) and the update (Eq. 9, 10) of PaiNN,

    .. math::
        s_i &\leftarrow s_i + \textstyle\sum_j \phi_s(s_j) \circ W_s(r_{ij}) \qquad
        v_i \leftarrow v_i + \textstyle\sum_j v_j \circ \phi_{vv}(s_j) \circ W_{vv}(r_{ij})
        + \hat r_{ij}\,\phi_{vs}(s_j) \circ W_{vs}(r_{ij}) \\
        s_i &\leftarrow s_i + a_{ss} + a_{sv} \circ \langle U v_i, V v_i \rangle \qquad
        v_i \leftarrow v_i + a_{vv} \circ U v_i

    Args:
        channels (int): Width F.
        num_kernels (int): Radial functions.
        norm_eps (float): Under the root of :math:`\|V v\|`. (default: :obj:`1e-8`)
        weighting (str): :obj:`'sum'`, or :obj:`'softmax_count'` of equal scores, which is
            the same. (default: :obj:`'sum'`)
    """
    def __init__(self, channels: int, num_kernels: int, norm_eps: float = 1e-8, weighting: str = 'sum'):
        super().__init__()
        if weighting not in WEIGHTINGS:
            raise ValueError(f"'weighting' must be one of {', '.join(WEIGHTINGS)} (got '{weighting}')")
        self.norm_eps, self.weighting = norm_eps, weighting
        self.phi = nn.Sequential(nn.Linear(channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))
        self.filter = nn.Linear(num_kernels, 3 * channels)
        self.mix = nn.Linear(channels, 2 * channels, bias=False)  # U, V
        self.update = nn.Sequential(nn.Linear(2 * channels, channels), nn.SiLU(), nn.Linear(channels, 3 * channels))

    def forward(self, s: Tensor, v: Tensor, edges: Edges, radial: Tensor, cutoff: Tensor, direction: Tensor) -> tuple:
        r"""
        Args:
            s, v: Scalars [N, F] and vectors [N, 3, F].
            edges: The pairs, without i = j.
            radial: Radial functions [E, K].
            cutoff: Their cutoff function [E].
            direction: From j to i [E, 3].
        """
        message = self.phi(s)[edges.col] * (self.filter(radial) * cutoff.unsqueeze(-1))
        ds, vv, vs = message.chunk(3, dim=-1)
        dv = v[edges.col] * vv.unsqueeze(1) + direction.unsqueeze(-1) * vs.unsqueeze(1)
        score = s.new_zeros(ds.size(0), 1)
        s = s + attend_along_edges(ds, edges, self.weighting, score)
        v = v + attend_along_edges(dv, edges, self.weighting, score)
        u, w = self.mix(v).chunk(2, dim=-1)
        length = (w.square().sum(1) + self.norm_eps).sqrt()
        ss, sv, gate = self.update(torch.cat([s, length], dim=-1)).chunk(3, dim=-1)
        return s + ss + sv * (u * w).sum(1), v + gate.unsqueeze(1) * u


class PaiNN(AtomPredictor):
    r"""Messages of scalars and vectors between neighbouring atoms.

    Args:
        config (PaiNNConfig, optional): The model; or give its fields as keywords.
    """
    config_class = PaiNNConfig

    def __init__(self, config: PaiNNConfig | None = None, **kwargs):
        if config is not None and kwargs:
            raise ValueError(f"give 'config' or its fields, not both (got {sorted(kwargs)})")
        unknown = set(kwargs) - {f.name for f in fields(PaiNNConfig)}
        if unknown:
            raise ValueError(f"'{sorted(unknown)[0]}' is not a field of PaiNNConfig")
        c = PaiNNConfig(**kwargs) if config is None else config
        super().__init__(c)
        self.embedding = nn.Embedding(len(c.elements), c.channels)
        self.layers = nn.ModuleList(PaiNNLayer(c.channels, c.num_kernels, c.norm_eps) for _ in range(c.num_layers))
        self.register_buffer('frequency', torch.arange(1, c.num_kernels + 1) * (math.pi / c.cutoff), persistent=False)

    def encode(self, atoms: Atoms) -> tuple[Tensor, list[Tensor]]:
        assert isinstance(atoms.pairs, EdgePairs)
        edges, distance, direction = atoms.pairs.others()
        r = distance.unsqueeze(-1)
        radial = torch.sin(r * self.frequency) / torch.where(r == 0, 1.0, r)
        cutoff = cosine_cutoff(distance, self.config.cutoff)
        s = self.embedding(atoms.types)
        v = s.new_zeros(s.size(0), 3, s.size(1))
        for layer in self.layers:
            s, v = layer(s, v, edges, radial, cutoff, -direction)  # the paper's r_i - r_j
        return s, [v]
