r"""How good are generated molecules? :func:`evaluate` answers under a named protocol."""
from torch_geometric_inertial.metrics.completion import CompletionReport, completion_report, contains
from torch_geometric_inertial.metrics.frame_drift import frame_drift
from torch_geometric_inertial.metrics.hit_rate import HitRate, hit_rate
from torch_geometric_inertial.metrics.hydrogens import HydrogenReport, hydrogen_report, hydrogen_rmsd
from torch_geometric_inertial.metrics.property_error import PropertyError, halves, property_error, size_only_mae
from torch_geometric_inertial.metrics.property_regressor import PropertyRegressor
from torch_geometric_inertial.metrics.protocol import PROTOCOLS, Protocol
from torch_geometric_inertial.metrics.relaxation import (
    DistanceReport,
    EnergyReport,
    average_distance_within_threshold,
    energy_within_threshold,
)
from torch_geometric_inertial.metrics.report import FIGURES, Report, comparison, evaluate
from torch_geometric_inertial.metrics.stability import Stability, stability
from torch_geometric_inertial.metrics.uniqueness import novelty, reference_smiles, uniqueness
from torch_geometric_inertial.metrics.validity import Validity, validity

__all__ = [
    'FIGURES',
    'PROTOCOLS',
    'CompletionReport',
    'DistanceReport',
    'EnergyReport',
    'HitRate',
    'HydrogenReport',
    'PropertyError',
    'PropertyRegressor',
    'Protocol',
    'Report',
    'Stability',
    'Validity',
    'average_distance_within_threshold',
    'comparison',
    'completion_report',
    'contains',
    'energy_within_threshold',
    'evaluate',
    'frame_drift',
    'halves',
    'hit_rate',
    'hydrogen_report',
    'hydrogen_rmsd',
    'novelty',
    'property_error',
    'reference_smiles',
    'size_only_mae',
    'stability',
    'uniqueness',
    'validity',
]
