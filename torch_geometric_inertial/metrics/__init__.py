r"""How good are generated molecules? :func:`evaluate` answers under a named protocol."""
from torch_geometric_inertial.metrics.completion import CompletionReport, completion_report, contains
from torch_geometric_inertial.metrics.edm import Stability, stability
from torch_geometric_inertial.metrics.evaluate import evaluate, reference_smiles
from torch_geometric_inertial.metrics.figure import Figure
from torch_geometric_inertial.metrics.frame_drift import frame_drift
from torch_geometric_inertial.metrics.hit_rate import HitRate, hit_rate
from torch_geometric_inertial.metrics.hydrogens import HydrogenReport, hydrogen_report, hydrogen_rmsd
from torch_geometric_inertial.metrics.memorization import Memorization, memorization
from torch_geometric_inertial.metrics.property_error import (
    PropertyError,
    formula_only_mae,
    halves,
    property_error,
    size_only_mae,
)
from torch_geometric_inertial.metrics.property_regressor import PropertyRegressor
from torch_geometric_inertial.metrics.protocol import STATUSES, Protocol, protocol_names
from torch_geometric_inertial.metrics.relaxation import (
    DistanceReport,
    EnergyReport,
    RelaxationReport,
    average_distance_within_threshold,
    energy_within_threshold,
    relaxation_report,
)
from torch_geometric_inertial.metrics.report import Report, comparison

__all__ = [
    'STATUSES',
    'CompletionReport',
    'DistanceReport',
    'EnergyReport',
    'Figure',
    'HitRate',
    'HydrogenReport',
    'Memorization',
    'PropertyError',
    'PropertyRegressor',
    'Protocol',
    'RelaxationReport',
    'Report',
    'Stability',
    'average_distance_within_threshold',
    'comparison',
    'completion_report',
    'contains',
    'energy_within_threshold',
    'evaluate',
    'formula_only_mae',
    'frame_drift',
    'halves',
    'hit_rate',
    'hydrogen_report',
    'hydrogen_rmsd',
    'memorization',
    'property_error',
    'protocol_names',
    'reference_smiles',
    'relaxation_report',
    'size_only_mae',
    'stability',
]
