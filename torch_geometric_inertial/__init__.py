r"""Generate 3D molecules and predict from 3D geometry with PyTorch Geometric."""
from .models import (
    AtomAutoregressor,
    GeoMFormer,
    GeoMFormerConfig,
    InertialAR,
    InertialARConfig,
    LogProb,
    LossTerms,
    PaiNN,
    PaiNNConfig,
    Quetzal,
    QuetzalConfig,
    TorchMDNet,
    TorchMDNetConfig,
)
from .nn import GeoRoPEAttention
from .transforms import CanonicalOrder, FunctionalGroups, InertialFrame

__version__ = '0.1.0'

__all__ = [
    'AtomAutoregressor',
    'CanonicalOrder',
    'FunctionalGroups',
    'GeoMFormer',
    'GeoMFormerConfig',
    'GeoRoPEAttention',
    'InertialAR',
    'InertialARConfig',
    'InertialFrame',
    'LogProb',
    'LossTerms',
    'PaiNN',
    'PaiNNConfig',
    'Quetzal',
    'QuetzalConfig',
    'TorchMDNet',
    'TorchMDNetConfig',
]
