from .atom_order import RandomOrder
from .augment import RandomPose
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import FitConfig, fit
from .packed import PackedMolecules

__all__ = ['FitConfig', 'PackedMolecules', 'RandomOrder', 'RandomPose', 'fit', 'load_checkpoint', 'save_checkpoint']
