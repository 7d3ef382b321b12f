r"""PaiNN (Schütt et al., ICML 2021, arXiv:2102.03150) as an instance of two-stream attention along edges: all weights
are 1, values read the sender, and there is no attention within the vectors or from vectors to scalars."""
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
class PaiNNConfig(PredictorConfig):
    r"""Everything that defines a :class:`PaiNN`, beside the fields of
    :class:`~torch_geometric_inertial.models.predictor_config.PredictorConfig`. Radial functions are
    :math:`\sin(n \pi r / r_c) / r`.

    Args:
        norm_eps (float): Under the root of the length of vectors.
    """
    num_layers: int = 3
    num_kernels: int = 20
    cutoff: float = 5.0
    velocity: Literal['none'] = 'none'
    norm_eps: float = 1e-8

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(positive=('norm_eps', ))


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
    """
    def __init__(self, channels: int, num_kernels: int, norm_eps: float = 1e-8):
        super().__init__()
        self.norm_eps = norm_eps
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
        s, v = s + edge_attention(ds, edges), v + edge_attention(dv, edges)
        u, w = self.mix(v).chunk(2, dim=-1)
        length = (w.square().sum(1) + self.norm_eps).sqrt()
        ss, sv, gate = self.update(torch.cat([s, length], dim=-1)).chunk(3, dim=-1)
        return s + ss + sv * (u * w).sum(1), v + gate.unsqueeze(1) * u


class PaiNN(AtomPredictor):
    r"""Messages of scalars and vectors between neighboring atoms.

    Args:
        config (PaiNNConfig, optional): The model; or give its fields as keywords.
    """
    config_class = PaiNNConfig

    def __init__(self, config: PaiNNConfig | None = None, **kwargs):
        c = PaiNNConfig.of(config, kwargs)
        super().__init__(c)
        self.embedding = nn.Embedding(len(c.elements), c.channels)
        self.layers = nn.ModuleList(PaiNNLayer(c.channels, c.num_kernels, c.norm_eps) for _ in range(c.num_layers))
        self.register_buffer('frequency', torch.arange(1, c.num_kernels + 1) * (math.pi / c.cutoff), persistent=False)

    def encode(self, atoms: AtomInputs) -> tuple[Tensor, list[Tensor]]:
        assert isinstance(atoms.pairs, EdgePairAttention)
        edges, distance, direction = atoms.pairs.others()
        r = distance.unsqueeze(-1)
        radial = torch.sin(r * self.frequency) / torch.where(r == 0, 1.0, r)
        cutoff = cosine_cutoff(distance, self.config.cutoff)
        s = self.add_labels(self.embedding(atoms.types), atoms)
        v = s.new_zeros(s.size(0), 3, s.size(1))
        for layer in self.layers:
            s, v = layer(s, v, edges, radial, cutoff, -direction)  # the paper's r_i - r_j
        return s, [v]
