r"""Generate 3D molecules and predict from 3D geometry with PyTorch Geometric."""
from .chem import as_data, as_molecules, from_ase, from_mol, from_smiles, to_ase, to_mol
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
    'as_data',
    'as_molecules',
    'from_ase',
    'from_mol',
    'from_smiles',
    'to_ase',
    'to_mol',
]
