r"""Quetzal (Cheng, Sun & Aspuru-Guzik, arXiv:2505.13791): an autoregressive generator in Cartesian coordinates."""
from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from torch_geometric_inertial.models.autoregressor import AtomAutoregressor, Parts
from torch_geometric_inertial.models.config import ModelConfig
from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.fourier import RandomFourierFeatures
from torch_geometric_inertial.nn.fourier_embedding import BeginToken, FourierAtomEmbedding, TypeTable
from torch_geometric_inertial.nn.geo_rope_attention import GeoRoPEGeometry
from torch_geometric_inertial.nn.placement import Placement
from torch_geometric_inertial.nn.transformer_block import CausalStack

ORDERS = ('file', 'heavy_first', 'smiles', 'rank', 'random', 'traverse')


@dataclass(frozen=True)
class QuetzalConfig(ModelConfig):
    r"""Everything that defines a :class:`Quetzal`. The defaults are those of the published models.

    Args:
        elements (tuple): Atomic numbers.
        max_atoms (int): Longest molecule.
        order (str): The order of atoms that the model reads and writes: :obj:`'file'`, one of
            :class:`~torch_geometric_inertial.transforms.CanonicalOrder`, or one of
            :class:`~torch_geometric_inertial.training.RandomOrder`.
        num_groups (int): Groups of the multi-hot condition; 0 for none.
        group_names (tuple): Their names, or none.
        properties (tuple): Names of the real numbers of the condition, such as :obj:`('gap', )`.
        channels (int): Size of a token.
        heads (int): Attention heads.
        num_layers (int): Layers, even: the first half up to the type of the next atom, the second to its place.
        coord_features (int): Random Fourier features a component, of a token's position.
        head_channels (int): Width of the diffusion head.
        head_layers (int): Residual blocks of the diffusion head.
        head_features (int): Random Fourier features a component, of the noisy coordinate.
        bandwidth (float): Of both, in cycles per Å (and per unit of the scaled coordinate).
        sigma_data (float): Standard deviation of a coordinate, Å.
        noise_mean (float): Mean of ln σ in training.
        noise_std (float): Its standard deviation.
        num_draws (int): Noise draws a token.
        coord_weight (float): Weight of the diffusion loss.
        context_noise (float): Noise (Å) on the positions that the network is told of in training.
        dropout (float): Of attention weights and residual branches.
        condition_dropout (float): Share of molecules trained without the condition; of the others, each group and
            each property is left out with the same probability.
        stop_place (bool): Whether the head learns to put the stop token at the origin too, as the released code does.
    """
    elements: tuple[int, ...] = (1, 6, 7, 8, 9)
    max_atoms: int = 511
    order: str = 'heavy_first'
    num_groups: int = 0
    group_names: tuple[str, ...] = ()
    properties: tuple[str, ...] = ()
    channels: int = 768
    heads: int = 12
    num_layers: int = 12
    coord_features: int = 256
    head_channels: int = 1536
    head_layers: int = 6
    head_features: int = 512
    bandwidth: float = 20.0
    sigma_data: float = 1.4
    noise_mean: float = -1.2
    noise_std: float = 1.2
    num_draws: int = 4
    coord_weight: float = 1.0
    context_noise: float = 0.0
    dropout: float = 0.0
    condition_dropout: float = 0.1
    stop_place: bool = False

    def __post_init__(self):
        self.as_tuples('elements', 'group_names', 'properties')
        self.check_elements(self.elements)
        self.check(at_least_one=('max_atoms', 'channels', 'heads', 'num_layers', 'coord_features', 'head_channels',
                                 'head_layers', 'head_features', 'num_draws'),
                   not_negative=('num_groups', 'coord_weight', 'context_noise'),
                   positive=('bandwidth', 'sigma_data', 'noise_std'), share=('dropout', 'condition_dropout'))
        self.check_conditions(self.num_groups, self.group_names, self.properties)
        if self.num_layers % 2 != 0:
            raise ValueError(f"'num_layers' must be even (got {self.num_layers})")
        if self.order not in ORDERS:
            raise ValueError(f"'order' must be one of {', '.join(ORDERS)} (got '{self.order}')")


TRUNKS = {'small': (512, 8), 'base': (640, 10), 'big': (768, 12)}
QuetzalConfig.presets = {
    'tiny': QuetzalConfig(max_atoms=30, channels=128, heads=4, num_layers=6, coord_features=64, head_channels=128,
                          head_layers=3, head_features=128),
    **{f'{name}-w{width}': QuetzalConfig(channels=channels, heads=channels // 64, num_layers=num_layers,
                                         head_channels=width)
       for name, (channels, num_layers) in TRUNKS.items() for width in (512, 1024, 1536)},
}


class Quetzal(AtomAutoregressor):
    r"""Types and places by two causal transformers that know positions by their Fourier features alone.

    Nothing in it is equivariant: it learns from molecules whose centroid and principal axes
    (:class:`~torch_geometric_inertial.InertialFrame`) are turned and shifted at random
    (:obj:`RandomPose(180, 1.0)` of :mod:`torch_geometric_inertial.training`).

    Args:
        config (QuetzalConfig, optional): The model; or give its fields as keywords.
    """
    config_class = QuetzalConfig

    def __init__(self, config: QuetzalConfig | None = None, **kwargs):
        c = QuetzalConfig.of(config, kwargs)
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
        super().__init__(
            Parts(embedding=embedding, condition=begin, type_geometry=geometry, type_stack=type_stack,
                  type_head=TypeTable(c.channels, c.elements), coord_geometry=geometry, coord_stack=coord_stack,
                  placement=Placement('absolute', num_neighbours=0), head=head, skip=False, stop_place=c.stop_place,
                  environment_channels=0, valence_channels=0, pair_channels=0),
            elements=c.elements, channels=c.channels, max_atoms=c.max_atoms, num_draws=c.num_draws,
            coord_weight=c.coord_weight, context_noise=c.context_noise)
        self.config = c

    def __repr__(self) -> str:
        total = sum(p.numel() for p in self.parameters())
        return f"{type(self).__name__}({total:,} parameters, order='{self.config.order}')"
