r"""Layers: attention that knows where atoms are, and the parts of the generators."""
from .atom_embedding import AtomEmbedding
from .condition import Condition
from .diffusion_head import DiffusionHead
from .environment import EnvironmentReadout
from .flow_density import flow_log_density
from .fourier import FourierFeatures, RandomFourierFeatures
from .fourier_embedding import FourierAtomEmbedding
from .geo_rope_attention import GeoRoPEAttention
from .nystrom import NystromFeatures
from .pair_field import PairField
from .placement import Placement
from .transformer_block import CausalStack, TransformerBlock
from .valence import ValenceReadout

__all__ = [
    'AtomEmbedding',
    'CausalStack',
    'Condition',
    'DiffusionHead',
    'EnvironmentReadout',
    'FourierAtomEmbedding',
    'FourierFeatures',
    'GeoRoPEAttention',
    'NystromFeatures',
    'PairField',
    'Placement',
    'RandomFourierFeatures',
    'TransformerBlock',
    'ValenceReadout',
    'flow_log_density',
]
