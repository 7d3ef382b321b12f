from .atom_predictor import AtomPredictor
from .autoregressor import AtomAutoregressor, LossTerms
from .geomformer import GeoMFormer, GeoMFormerConfig
from .inertial_ar import InertialAR, InertialARConfig
from .likelihood import LogProb
from .quetzal import Quetzal, QuetzalConfig

__all__ = [
    'AtomAutoregressor',
    'AtomPredictor',
    'GeoMFormer',
    'GeoMFormerConfig',
    'InertialAR',
    'InertialARConfig',
    'LogProb',
    'LossTerms',
    'Quetzal',
    'QuetzalConfig',
]
