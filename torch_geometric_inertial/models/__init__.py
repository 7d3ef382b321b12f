from .autoregressor import AtomAutoregressor, LossTerms
from .inertial_ar import InertialAR, InertialARConfig
from .likelihood import LogProb
from .quetzal import Quetzal, QuetzalConfig

__all__ = ['AtomAutoregressor', 'InertialAR', 'InertialARConfig', 'LogProb', 'LossTerms', 'Quetzal', 'QuetzalConfig']
