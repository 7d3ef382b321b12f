from .atom_order import RandomOrder
from .augment import RandomPose
from .batches import AtomBatches, MoleculeBatches
from .checkpoint import load_checkpoint, save_checkpoint
from .conformer_gap import ConformerGapLoss, ConformerPrediction, predict_from_conformers, relaxation_errors
from .fit import fit
from .fit_config import FitConfig
from .is2re import IS2RELoss, IS2RSLoss, predict_is2re
from .keep_best import KeepBest, fit_best
from .noisy_nodes import NoisyNodes
from .packed import PackedMolecules
from .packed_targets import PackedTargets
from .prediction_loss import EnergyForceLoss, PositionLoss, PropertyLoss
from .relaxation_input import RelaxationInput
from .validation import ValidationLoss

__all__ = [
    'AtomBatches',
    'ConformerGapLoss',
    'ConformerPrediction',
    'EnergyForceLoss',
    'FitConfig',
    'IS2RELoss',
    'IS2RSLoss',
    'KeepBest',
    'MoleculeBatches',
    'NoisyNodes',
    'PackedMolecules',
    'PackedTargets',
    'PositionLoss',
    'PropertyLoss',
    'RandomOrder',
    'RandomPose',
    'RelaxationInput',
    'ValidationLoss',
    'fit',
    'fit_best',
    'load_checkpoint',
    'predict_from_conformers',
    'predict_is2re',
    'relaxation_errors',
    'save_checkpoint',
]
