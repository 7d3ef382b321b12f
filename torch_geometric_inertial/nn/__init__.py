r"""Layers: attention that knows where atoms are, and the parts of the generators."""
from .atom_embedding import AtomEmbedding
from .condition import Condition
from .diffusion_head import DiffusionHead
from .environment import EnvironmentReadout
from .equivariant_norm import EquivariantLayerNorm
from .flow_density import flow_log_density
from .fourier import FourierFeatures, RandomFourierFeatures
from .fourier_embedding import FourierAtomEmbedding
from .geo_rope_attention import GeoRoPEAttention
from .local_frame import LocalFrameBuilder
from .nystrom import NystromFeatures
from .pair_field import PairField
from .radial_basis import GaussianBasis
from .structural_encoding import StructuralEncoding
from .transformer_block import CausalStack, TransformerBlock
from .two_stream_block import TwoStreamBlock
from .valence_features import ValenceFeatures
from .vector_input import VectorInput

__all__ = [
    'AtomEmbedding',
    'CausalStack',
    'Condition',
    'DiffusionHead',
    'EnvironmentReadout',
    'EquivariantLayerNorm',
    'FourierAtomEmbedding',
    'FourierFeatures',
    'GaussianBasis',
    'GeoRoPEAttention',
    'LocalFrameBuilder',
    'NystromFeatures',
    'PairField',
    'RandomFourierFeatures',
    'StructuralEncoding',
    'TransformerBlock',
    'TwoStreamBlock',
    'ValenceFeatures',
    'VectorInput',
    'flow_log_density',
]
