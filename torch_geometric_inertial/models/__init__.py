from .atom_predictor import AtomPredictor, Prediction
from .atom_transformer import LossTerms
from .autoregressor import AtomAutoregressor
from .geomformer import GeoMFormer, GeoMFormerConfig
from .inertial_ar import InertialAR, InertialARConfig
from .log_likelihood import LogProb
from .painn import PaiNN, PaiNNConfig
from .quetzal import Quetzal, QuetzalConfig
from .torchmd_net import TorchMDNet, TorchMDNetConfig
from .training_domain import TrainingDomain
from .widen import widened

__all__ = [
    'AtomAutoregressor',
    'AtomPredictor',
    'GeoMFormer',
    'GeoMFormerConfig',
    'InertialAR',
    'InertialARConfig',
    'LogProb',
    'LossTerms',
    'PaiNN',
    'PaiNNConfig',
    'Prediction',
    'Quetzal',
    'QuetzalConfig',
    'TorchMDNet',
    'TorchMDNetConfig',
    'TrainingDomain',
    'widened',
]
