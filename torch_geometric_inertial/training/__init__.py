from .atom_order import RandomOrder
from .augment import RandomPose
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import FitConfig, fit
from .keep_best import KeepBest
from .packed import PackedMolecules
from .packed_targets import PackedTargets
from .prediction_loss import EnergyForceLoss, PositionLoss

__all__ = [
    'EnergyForceLoss',
    'FitConfig',
    'KeepBest',
    'PackedMolecules',
    'PackedTargets',
    'PositionLoss',
    'RandomOrder',
    'RandomPose',
    'fit',
    'load_checkpoint',
    'save_checkpoint',
]
