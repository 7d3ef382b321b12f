r"""How near are predicted relaxed energies and structures? The measures of OC20's IS2RE and IS2RS tasks."""
from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.neighbors.minimum_image import minimum_image
from torch_geometric_inertial.ops.segment import segment_mean

ENERGY_THRESHOLD = 0.02  #: eV
DISTANCE_THRESHOLDS = tuple((10 + k) / 1000 for k in range(490))  #: Å, 0.010, 0.011, … 0.499


@dataclass(frozen=True)
class EnergyReport:
    r"""Predicted relaxed energies. A prediction that is not finite is a miss.

    Args:
        mae: Mean absolute error, eV; infinite if a prediction is not finite.
        within: EwT, the share of systems with an error below 0.02 eV.
        num_within: Their number.
        num_systems: Of how many.
    """
    mae: float
    within: float
    num_within: int
    num_systems: int

    def __str__(self) -> str:
        return f'energy MAE {self.mae:.4f} eV, EwT {100 * self.within:.2f} % ({self.num_within} of {self.num_systems})'


@dataclass(frozen=True)
class DistanceReport:
    r"""Predicted relaxed structures. A prediction that is not finite is a miss.

    Args:
        within: ADwT, the mean of the :obj:`curve`.
        curve: The share of systems whose mean distance is below each of :data:`DISTANCE_THRESHOLDS`.
        distance: The mean distance of the atoms of each system from where they should be, Å.
        num_systems: How many systems.
        num_atoms: How many atoms count.
    """
    within: float
    curve: tuple[float, ...]
    distance: tuple[float, ...]
    num_systems: int
    num_atoms: int

    @property
    def mean(self) -> float:
        r"""The mean distance of all systems, Å."""
        return sum(self.distance) / len(self.distance)

    def __str__(self) -> str:
        return (f'ADwT {100 * self.within:.2f} %, mean distance {self.mean:.4f} Å ({self.num_systems} systems, '
                f'{self.num_atoms} atoms)')


@dataclass(frozen=True)
class RelaxationReport:
    r"""What there is to say of predictions for OC20's tasks.

    Args:
        energy: Of the energies; :obj:`None` if there are none (IS2RS).
        structure: Of the structures.
    """
    energy: EnergyReport | None
    structure: DistanceReport

    def figures(self) -> dict[str, float]:
        r"""The main figures by name, for a log."""
        energy = {} if self.energy is None else dict(energy_mae=self.energy.mae, ewt=self.energy.within)
        return dict(distance=self.structure.mean, adwt=self.structure.within, **energy)

    def __str__(self) -> str:
        return '; '.join(str(part) for part in (self.energy, self.structure) if part is not None)


def relaxation_report(energy: Tensor | None, pos: Tensor, batch: Data) -> RelaxationReport:
    r"""Judges predictions such as those of :func:`~torch_geometric_inertial.training.predict_is2re`.

    Args:
        energy: Predicted energies [B], eV; :obj:`None` if there are none.
        pos: Predicted positions [N, 3], Å.
        batch: The systems, with :obj:`energy`, :obj:`pos_relaxed`, :obj:`cell`, :obj:`pbc`, :obj:`fixed` and
            :obj:`batch`.

    Raises:
        ValueError: As :func:`energy_within_threshold` and :func:`average_distance_within_threshold` do.
    """
    structure = average_distance_within_threshold(pos, batch.pos_relaxed, batch.batch, batch.cell, batch.pbc,
                                                  fixed=batch.fixed)
    return RelaxationReport(None if energy is None else energy_within_threshold(energy, batch.energy), structure)


def energy_within_threshold(pred: Tensor, target: Tensor) -> EnergyReport:
    r"""Energies within a threshold (EwT) as fairchem defines it, and the mean absolute error.

    Args:
        pred: Predicted energies [B], eV.
        target: Those of DFT [B].

    Raises:
        ValueError: If the shapes differ, there is no system, or a target is not finite.
    """
    if pred.shape != target.shape or pred.dim() != 1 or pred.numel() == 0:
        raise ValueError(f"'pred' and 'target' must be of one shape [B], B ≥ 1 (got {list(pred.shape)} and "
                         f"{list(target.shape)})")
    _check_finite(target)
    error = (pred.detach().cpu().double() - target.detach().cpu().double()).abs()
    error = torch.where(error.isfinite(), error, torch.inf)
    within = int((error < ENERGY_THRESHOLD).sum())
    return EnergyReport(float(error.mean()), within / pred.numel(), within, pred.numel())


def average_distance_within_threshold(pred: Tensor, target: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor, *,
                                      fixed: Tensor | None = None) -> DistanceReport:
    r"""Average distances within thresholds (ADwT) as fairchem defines it: the mean over the free atoms of a system of
    the distance to the nearest periodic image of where they should be; the share of systems in which it is below a
    threshold; the mean of that over 490 thresholds.

    Args:
        pred: Predicted positions [N, 3], Å.
        target: Those of DFT [N, 3].
        batch: The system of each atom [N], not decreasing, from 0.
        cell: Lattice vectors as rows [B, 3, 3], Å.
        pbc: Which of them are periods [B, 3], bool.
        fixed: Which atoms do not count [N], bool. (default: none of them)

    Raises:
        ValueError: If the shapes do not fit, a system has no atom that counts, or a target is not finite.
    """
    if pred.shape != target.shape or pred.dim() != 2 or pred.size(1) != 3:
        raise ValueError(f"'pred' and 'target' must be of one shape [N, 3] (got {list(pred.shape)} and "
                         f"{list(target.shape)})")
    if batch.shape != pred.shape[:1]:
        raise ValueError(f"'batch' must be [{pred.size(0)}] (got {list(batch.shape)})")
    if fixed is not None and (fixed.shape != batch.shape or fixed.dtype != torch.bool):
        raise ValueError(f"'fixed' must be bool [{pred.size(0)}] (got {fixed.dtype} {list(fixed.shape)})")
    if bool((batch.diff() < 0).any()):
        raise ValueError("'batch' must not decrease")
    _check_finite(target)
    free = torch.ones_like(batch, dtype=torch.bool) if fixed is None else ~fixed
    counts = torch.bincount(batch[free], minlength=cell.size(0))
    if counts.numel() == 0 or counts.numel() > cell.size(0) or int(counts.min()) == 0:
        raise ValueError(f"'batch' must give each of {cell.size(0)} systems an atom that counts "
                         f"(got {counts.tolist()[:8]})")
    pred, target, cell, batch, pbc = (x.detach().cpu() for x in (pred[free], target[free], cell, batch[free], pbc))
    distance = minimum_image(pred.double() - target.double(), cell.double(), pbc, batch).norm(dim=1)
    distance = segment_mean(distance, torch.cat([counts.new_zeros(1), counts.cumsum(0)]).cpu())
    distance = torch.where(distance.isfinite(), distance, torch.inf)
    thresholds = torch.tensor(DISTANCE_THRESHOLDS, dtype=torch.float64)
    curve = (distance.unsqueeze(1) < thresholds).double().mean(0)
    return DistanceReport(float(curve.mean()), tuple(curve.tolist()), tuple(distance.tolist()), cell.size(0),
                          batch.numel())


def _check_finite(target: Tensor) -> None:
    if not bool(target.isfinite().all()):
        raise ValueError(f"'target' must be finite (got {int((~target.isfinite()).sum())} entries that are not)")
