from .diffusion_head import DiffusionHead
from .fourier import FourierFeatures
from .geo_rope_attention import GeoRoPEAttention
from .nystrom import NystromFeatures
from .placement import Placement
from .transformer_block import CausalStack, TransformerBlock

__all__ = [
    'CausalStack',
    'DiffusionHead',
    'FourierFeatures',
    'GeoRoPEAttention',
    'NystromFeatures',
    'Placement',
    'TransformerBlock',
]
