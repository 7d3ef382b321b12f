r"""InertialAR (Li et al., arXiv:2510.27497): an autoregressive generator of molecules in canonical form."""
from __future__ import annotations

import reprlib
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.models.atom_placer import AtomPlacer
from torch_geometric_inertial.models.atom_transformer import AtomTransformer, Parts
from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.graph_autoregressor import GraphAutoregressor
from torch_geometric_inertial.nn.atom_embedding import ReleasedAtomEmbedding
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary
from torch_geometric_inertial.nn.condition import Condition
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.fourier import FourierFeatures
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.nystrom import NystromFeatures
from torch_geometric_inertial.nn.transformer_block import CausalStack

#: The heavy atoms of QM9 as (element, charge, hydrogens, valence).
QM9_ATOM_TYPES = (
    (6, -1, 0, 3), (6, -1, 1, 3), (6, 0, 0, 4), (6, 0, 1, 4), (6, 0, 2, 4), (6, 0, 3, 4), (6, 0, 4, 4),
    (7, -1, 0, 2), (7, 0, 0, 3), (7, 0, 1, 3), (7, 0, 2, 3), (7, 0, 3, 3),
    (7, 1, 0, 4), (7, 1, 1, 4), (7, 1, 2, 4), (7, 1, 3, 4),
    (8, -1, 0, 1), (8, 0, 0, 2), (8, 0, 1, 2), (8, 0, 2, 2), (9, 0, 0, 1),
)


@dataclass(frozen=True)
class InertialARConfig(GeneratorConfig):
    r"""Everything that defines an :class:`InertialAR`, beside the fields of :class:`GeneratorConfig`.

    Args:
        order (str): The :class:`~torch_geometric_inertial.transforms.CanonicalOrder` that the model reads and writes;
            :obj:`'heavy_first'` where it writes bonds.
        bonds (bool): Whether the model writes the bond graph before the places: a
            :class:`~torch_geometric_inertial.models.bonded_network.BondedNetwork`. Otherwise it is the published
            arrangement: elements and places in turn, with GeoRoPE attention.
        atom_types (tuple): Heavy atoms that a model with bonds knows, as (atomic number, formal charge, hydrogens,
            sum of bond orders); they settle :obj:`elements`. See
            :func:`~torch_geometric_inertial.nn.atom_vocabulary.atom_types_of`.
        graph_layers (int): With bonds: layers over the atoms of the graph while it is written.
        place_layers (int): With bonds: layers over the whole graph before its atoms are placed.
        pair_channels (int): With bonds: size of what a pair of atoms is described by.
        message_channels (int): With bonds: size of the messages from the atoms around a place.
        message_rounds (int): With bonds: rounds of these messages.
        field_channels (int): With bonds: size of the messages to a coordinate that is being denoised.
        num_neighbors (int): With bonds: atoms around a place, beside the parent.
        max_closures (int): With bonds: rings that one atom may close.
        type_layers (int): Without bonds: layers up to the type of the next atom.
        coord_layers (int): Without bonds: layers from there to the condition of its place.
        width (float): Without bonds: width of the Nyström kernel, Å.
        num_landmarks (int): Without bonds: Nyström landmarks.

    Raises:
        ValueError: If a field is out of range, or an atom type is none.
    """
    order: str = 'heavy_first'
    channels: int = 192
    heads: int = 6
    num_draws: int = 3
    coord_weight: float = 4.0
    bonds: bool = True
    atom_types: tuple[tuple[int, int, int, int], ...] = QM9_ATOM_TYPES
    graph_layers: int = 5
    place_layers: int = 4
    pair_channels: int = 32
    message_channels: int = 128
    message_rounds: int = 3
    field_channels: int = 48
    num_neighbors: int = 10
    max_closures: int = 4
    type_layers: int = 6
    coord_layers: int = 6
    width: float = 1.5
    num_landmarks: int = 768

    def __post_init__(self):
        super().__post_init__()
        if self.bonds and self.atom_types:
            object.__setattr__(self, 'elements', tuple(sorted({1, *(t[0] for t in self.atom_types)})))
        self.check(at_least_one=('graph_layers', 'place_layers', 'pair_channels', 'message_channels', 'message_rounds',
                                 'field_channels', 'num_neighbors', 'max_closures', 'type_layers', 'coord_layers',
                                 'num_landmarks'), positive=('width', ))
        if self.order not in ('smiles', 'heavy_first', 'rank'):
            raise ValueError(f"'order' must be 'smiles', 'heavy_first' or 'rank' (got {reprlib.repr(self.order)})")
        if self.bonds and self.order != 'heavy_first':
            raise ValueError(f"'order' must be 'heavy_first' for a model that writes bonds (got '{self.order}')")
        if self.bonds and not self.atom_types:
            raise ValueError("'atom_types' must name a heavy atom or more (got none)")
        if len(set(self.atom_types)) != len(self.atom_types):
            raise ValueError("'atom_types' must be distinct")
        for z, charge, hydrogens, valence in self.atom_types:
            if not (1 < z < len(SYMBOLS) and abs(charge) <= 8 and 0 <= hydrogens <= valence <= 12):
                raise ValueError(f"'atom_types' must be (atomic number above 1, charge within 8, hydrogens, valence "
                                 f"from there to 12) (got {(z, charge, hydrogens, valence)})")


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
        super().__init__(_bonded_network(c) if c.bonds else _published_network(c), c)

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


def _condition(c: InertialARConfig) -> Condition:
    return Condition(c.channels, c.num_groups, c.properties, c.condition_dropout, c.group_names)


def _bonded_network(c: InertialARConfig) -> BondedNetwork:
    vocabulary = AtomVocabulary(c.atom_types)
    head = DiffusionHead(c.head_channels, c.channels, c.head_layers, sigma_data=c.sigma_data, noise_mean=c.noise_mean,
                         noise_std=c.noise_std, pair_channels=c.field_channels)
    return BondedNetwork(
        vocabulary, _condition(c), _condition(c),
        GraphAutoregressor(vocabulary, c.channels, c.heads, c.graph_layers, c.pair_channels, c.max_atoms,
                           c.max_closures),
        AtomPlacer(len(vocabulary), c.channels, c.heads, c.place_layers, c.pair_channels, c.message_channels,
                   c.message_rounds, c.num_neighbors, c.context_noise, head, c.field_channels),
        c.max_atoms, c.max_closures, c.num_draws, c.coord_weight)


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
        condition=_condition(c),
        type_geometry=geometry,
        type_stack=CausalStack(c.type_layers, geometry=geometry, fusion='heads', **stack),
        type_head=type_head,
        coord_geometry=coord_geometry,
        coord_stack=CausalStack(c.coord_layers, geometry=coord_geometry, **stack),
        head=head,
        skip=True,
        stop_place=False,
    ), c)
