r"""Quetzal (Cheng, Sun & Aspuru-Guzik, arXiv:2505.13791): an autoregressive generator in Cartesian coordinates."""
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torch_geometric_inertial.models.atom_transformer import AtomTransformer, Parts
from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
from torch_geometric_inertial.models.bonded_config import BondedConfig
from torch_geometric_inertial.models.bonded_network import bonded_network
from torch_geometric_inertial.nn.bond_frame import cartesian_axes
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.fourier import RandomFourierFeatures
from torch_geometric_inertial.nn.fourier_embedding import BeginToken, FourierAtomEmbedding, TypeTable
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.transformer_block import CausalStack

ORDERS = ('file', 'heavy_first', 'smiles', 'rank', 'random', 'traverse')


@dataclass(frozen=True)
class QuetzalConfig(BondedConfig):
    r"""Everything that defines a :class:`Quetzal`, beside the fields of :class:`BondedConfig`. The defaults are
    those of the published models.

    Args:
        order (str): The order of atoms that the model reads and writes: :obj:`'file'`, one of
            :class:`~torch_geometric_inertial.transforms.CanonicalOrder`, or one of
            :class:`~torch_geometric_inertial.training.RandomOrder`.
        num_layers (int): Without bonds: layers, even: the first half up to the type of the next atom, the second to its
            place.
        coord_features (int): Random Fourier features a component, of a token's position.
        head_features (int): Random Fourier features a component, of the noisy coordinate.
        bandwidth (float): Of both, in cycles per Å (and per unit of the scaled coordinate).
        stop_place (bool): Whether the head learns to put the stop token at the origin too, as the released code does.
    """
    max_atoms: int = 511
    order: str = 'heavy_first'
    channels: int = 768
    heads: int = 12
    head_channels: int = 1536
    head_layers: int = 6
    sigma_data: float = 1.4
    noise_mean: float = -1.2
    noise_std: float = 1.2
    context_noise: float = 0.0
    num_layers: int = 12
    coord_features: int = 256
    head_features: int = 512
    bandwidth: float = 20.0
    stop_place: bool = False

    def __post_init__(self):
        super().__post_init__()
        self.check(at_least_one=('num_layers', 'coord_features', 'head_features'), positive=('bandwidth', ))
        if self.num_layers % 2 != 0:
            raise ValueError(f"'num_layers' must be even (got {self.num_layers})")
        if self.order not in ORDERS:
            raise ValueError(f"'order' must be one of {', '.join(ORDERS)} (got '{self.order}')")


TRUNKS = {'small': (512, 8), 'base': (640, 10), 'big': (768, 12)}
QuetzalConfig.presets = {
    'tiny': QuetzalConfig(max_atoms=30, channels=128, heads=4, num_layers=6, coord_features=64, head_channels=128,
                          head_layers=3, head_features=128),
    'bonds': QuetzalConfig(max_atoms=30, bonds=True, channels=192, heads=6, head_channels=192, head_layers=3,
                           sigma_data=0.8, noise_mean=-1.6, noise_std=1.3, context_noise=0.02, num_draws=3,
                           coord_weight=4.0),
    **{f'{name}-w{width}': QuetzalConfig(channels=channels, heads=channels // 64, num_layers=num_layers,
                                         head_channels=width)
       for name, (channels, num_layers) in TRUNKS.items() for width in (512, 1024, 1536)},
}


class Quetzal(AtomAutoregressor):
    r"""Types and places by two causal transformers that know positions by their Fourier features alone.

    Nothing in it is equivariant: it learns from molecules whose centroid and principal axes
    (:class:`~torch_geometric_inertial.InertialFrame`) are turned and shifted at random
    (:obj:`RandomPose(180, 1.0)` of :mod:`torch_geometric_inertial.training`).

    With :obj:`bonds` it writes the bond graph first, as :class:`InertialAR` does, and then the places along the
    Cartesian axes, each relative to the atom's parent.

    Args:
        config (QuetzalConfig, optional): The model; or give its fields as keywords.
    """
    config_class = QuetzalConfig

    def __init__(self, config: QuetzalConfig | None = None, **kwargs):
        c = QuetzalConfig.of(config, kwargs)
        super().__init__(bonded_network(c, cartesian_axes) if c.bonds else _published_network(c), c)

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.parameters())
        return f"{type(self).__name__}({total:,} parameters, order='{self.config.order}', bonds={self.config.bonds})"


def _published_network(c: QuetzalConfig) -> AtomTransformer:
    embedding = FourierAtomEmbedding(c.channels, c.elements, c.max_atoms, c.coord_features, c.bandwidth)
    begin = BeginToken(embedding, num_groups=c.num_groups, group_names=c.group_names, properties=c.properties,
                       dropout=c.condition_dropout)
    geometry = GeoRoPEGeometry(c.channels // c.heads, None, rotary=False)
    type_stack, coord_stack = (
        CausalStack(c.num_layers // 2, c.dropout, 'layer', 'gelu', channels=c.channels, heads=c.heads,
                    qk_norm=True, geometry=geometry) for _ in range(2))
    head = DiffusionHead(c.head_channels, c.channels, c.head_layers, sigma_data=c.sigma_data,
                         noise_mean=c.noise_mean, noise_std=c.noise_std, modulation='each',
                         coord_fourier=RandomFourierFeatures(c.head_features, c.bandwidth),
                         noise_fourier=RandomFourierFeatures(c.head_channels, 1.0), noise_mlp=nn.Identity())
    return AtomTransformer(
        Parts(embedding=embedding, condition=begin, type_geometry=geometry, type_stack=type_stack,
              type_head=TypeTable(c.channels, c.elements), coord_geometry=geometry, coord_stack=coord_stack,
              head=head, skip=False, stop_place=c.stop_place), c)
