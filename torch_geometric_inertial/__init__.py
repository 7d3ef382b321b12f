r"""Generate 3D molecules and predict from 3D geometry with PyTorch Geometric."""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from .report import view
    from .transforms import CanonicalOrder, FunctionalGroups, InertialFrame

__version__ = '0.2.0'

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
    'view',
]

_PARTS = ('transforms', 'nn', 'models', 'chem', 'report')  #: Where the names are; the first that has one gives it.


def __getattr__(name: str) -> Any:
    r"""The names are imported when they are asked for, so that ``inertial --help`` need not wait for PyTorch."""
    if name in _PARTS:
        return import_module(f'{__name__}.{name}')
    if name in __all__:
        for part in _PARTS:
            module = import_module(f'{__name__}.{part}')
            if name in module.__all__:
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
