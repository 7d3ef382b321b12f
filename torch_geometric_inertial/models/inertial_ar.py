r"""InertialAR (Li et al., arXiv:2510.27497): an autoregressive generator of molecules in canonical form."""
from __future__ import annotations

import reprlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.models.atom_transformer import AtomTransformer, Parts
from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.bonded_config import BondedConfig
from torch_geometric_inertial.models.bonded_network import bonded_network
from torch_geometric_inertial.nn.atom_embedding import ReleasedAtomEmbedding
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.nystrom import NystromFeatures
from torch_geometric_inertial.nn.transformer_block import CausalStack


@dataclass(frozen=True)
class InertialARConfig(BondedConfig):
    r"""Everything that defines an :class:`InertialAR`, beside the fields of :class:`BondedConfig`.

    Args:
        order (str): The :class:`~torch_geometric_inertial.transforms.CanonicalOrder` that the model reads and writes;
            :obj:`'heavy_first'` where it writes bonds.
        type_layers (int): Without bonds: layers up to the type of the next atom.
        coord_layers (int): Without bonds: layers from there to the condition of its place.
        width (float): Without bonds: width of the Nyström kernel, Å.
        num_landmarks (int): Without bonds: Nyström landmarks.

    Raises:
        ValueError: If a field is out of range.
    """
    order: str = 'heavy_first'
    channels: int = 192
    heads: int = 6
    num_draws: int = 3
    coord_weight: float = 4.0
    bonds: bool = True
    type_layers: int = 6
    coord_layers: int = 6
    width: float = 1.5
    num_landmarks: int = 768

    def __post_init__(self):
        super().__post_init__()
        self.check(at_least_one=('type_layers', 'coord_layers', 'num_landmarks'), positive=('width', ))
        if self.order not in ('smiles', 'heavy_first', 'rank'):
            raise ValueError(f"'order' must be 'smiles', 'heavy_first' or 'rank' (got {reprlib.repr(self.order)})")


InertialARConfig.presets = {
    'tiny': InertialARConfig(channels=96, heads=4, graph_layers=3, place_layers=2, message_channels=64,
                             message_rounds=2, field_channels=32, head_channels=128, head_layers=2),
    'small': InertialARConfig(),
    'base': InertialARConfig(channels=512, heads=16, graph_layers=8, place_layers=8, pair_channels=64,
                             message_channels=256, field_channels=96, head_channels=512, head_layers=6),
    'paper': InertialARConfig(bonds=False, elements=tuple(range(1, 119)), order='smiles', num_groups=1000,
                              channels=1536, heads=24, head_channels=1536, head_layers=10, sigma_data=1.4,
                              noise_mean=-1.2, noise_std=1.2, context_noise=0.0, num_draws=4),
}


class InertialAR(AtomAutoregressor):
    r"""A bond graph, then a place for each of its atoms in a frame of its own; or, without bonds, the published model:
    elements by a causal transformer with GeoRoPE attention, places by a second one and a diffusion head.

    Reads molecules that :class:`~torch_geometric_inertial.InertialFrame` and
    :class:`~torch_geometric_inertial.CanonicalOrder` (:obj:`order=config.order`) have put into canonical form.

    Args:
        config (InertialARConfig, optional): The model; or give its fields as keywords.
    """
    config_class = InertialARConfig

    def __init__(self, config: InertialARConfig | None = None, **kwargs):
        c = InertialARConfig.of(config, kwargs)
        super().__init__(bonded_network(c) if c.bonds else _published_network(c), c)

    @torch.no_grad()
    def fit_landmarks(self, pos: Tensor, *, seed: int = 0) -> InertialAR:
        r"""Puts the Nyström landmarks, if there are any, where atoms are: [N, 3] of the training set, in the canonical
        frame, Å."""
        for module in self.modules():
            if isinstance(module, NystromFeatures):
                module.fit(pos, seed=seed)
        return self

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.parameters())
        return f'{type(self).__name__}({total:,} parameters, bonds={self.config.bonds})'


def _published_network(c: InertialARConfig) -> AtomTransformer:
    num_types, head_size = len(c.elements) + 1, c.channels // c.heads
    geometry, coord_geometry = (GeoRoPEGeometry(head_size, None, rotary=rotary) for rotary in (True, False))
    type_head = nn.Sequential(nn.RMSNorm(c.channels, eps=1e-5), nn.Linear(c.channels, c.channels, bias=False),
                              nn.GELU(), nn.Linear(c.channels, num_types, bias=False))
    nn.init.zeros_(type_head[-1].weight)
    stack = dict(dropout=c.dropout, channels=c.channels, heads=c.heads)
    head = DiffusionHead(c.head_channels, c.channels, c.head_layers, sigma_data=c.sigma_data, noise_mean=c.noise_mean,
                         noise_std=c.noise_std, modulation='each', coord_fourier=FourierFeatures(512, 0.1, 8.0),
                         coord_layers=2, noise_fourier=FourierFeatures(c.head_channels, 0.2, 8.0))
    return AtomTransformer(Parts(
        embedding=ReleasedAtomEmbedding(c.channels, num_types, c.max_atoms,
                                        NystromFeatures((c.width, ), c.num_landmarks)),
        condition=Condition(c.channels, c.num_groups, c.properties, c.condition_dropout, c.group_names),
        type_geometry=geometry,
        type_stack=CausalStack(c.type_layers, geometry=geometry, fusion='heads', **stack),
        type_head=type_head,
        coord_geometry=coord_geometry,
        coord_stack=CausalStack(c.coord_layers, geometry=coord_geometry, **stack),
        head=head,
        skip=True,
        stop_place=False,
    ), c)
