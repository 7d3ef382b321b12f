from .autoregressor import AtomAutoregressor, LossTerms
from .inertial_ar import InertialAR, InertialARConfig

__all__ = ['AtomAutoregressor', 'InertialAR', 'InertialARConfig', 'LossTerms']
