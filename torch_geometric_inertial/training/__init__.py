from .atom_order import RandomOrder
from .augment import RandomPose
from .batches import AtomBatches, MoleculeBatches
from .checkpoint import load_checkpoint, save_checkpoint
from .fit import fit
from .fit_config import FitConfig
from .keep_best import KeepBest
from .noisy_nodes import NoisyNodes
from .packed import PackedMolecules
from .packed_targets import PackedTargets
from .prediction_loss import EnergyForceLoss, PositionLoss, PropertyLoss
from .relaxation_input import RelaxationInput
from .relaxed_gap import RelaxedGapLoss
from .relaxed_prediction import RelaxedPrediction, predict_relaxed, relaxation_errors
from .relaxed_system import RelaxedEnergyLoss, RelaxedStructureLoss, predict_relaxation

__all__ = [
    'AtomBatches',
    'EnergyForceLoss',
    'FitConfig',
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
    'RelaxedEnergyLoss',
    'RelaxedGapLoss',
    'RelaxedPrediction',
    'RelaxedStructureLoss',
    'fit',
    'load_checkpoint',
    'predict_relaxation',
    'predict_relaxed',
    'relaxation_errors',
    'save_checkpoint',
]
