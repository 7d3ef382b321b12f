r"""Layers: attention that knows where atoms are, and the parts of the generators."""
from .atom_embedding import ReleasedAtomEmbedding
from .atom_vocabulary import AtomType, AtomVocabulary, atom_types_of
from .condition import Condition
from .diffusion_head import DiffusionHead
from .equivariant_norm import EquivariantLayerNorm
from .flow_density import flow_log_density
from .fourier import FourierFeatures, RandomFourierFeatures
from .fourier_embedding import FourierAtomEmbedding
from .geo_rope_attention import GeoRoPEAttention
from .nystrom import NystromFeatures
from .pair_biased_attention import PairBiasedAttention
from .pair_field import PairField
from .radial_basis import GaussianBasis
from .structural_encoding import StructuralEncoding
from .transformer_block import CausalStack, TransformerBlock
from .two_stream_block import TwoStreamBlock
from .vector_input import VectorInput

__all__ = [
    'AtomType',
    'AtomVocabulary',
    'CausalStack',
    'Condition',
    'DiffusionHead',
    'EquivariantLayerNorm',
    'FourierAtomEmbedding',
    'FourierFeatures',
    'GaussianBasis',
    'GeoRoPEAttention',
    'NystromFeatures',
    'PairBiasedAttention',
    'PairField',
    'RandomFourierFeatures',
    'ReleasedAtomEmbedding',
    'StructuralEncoding',
    'TransformerBlock',
    'TwoStreamBlock',
    'VectorInput',
    'atom_types_of',
    'flow_log_density',
]
