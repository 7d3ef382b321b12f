r"""Are hydrogens where they should be? The measure of Quetzal (arXiv:2505.13791), with every miss counted."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch_geometric.data import Data

THRESHOLDS = (0.05, 0.1, 0.5)  #: Å


def hydrogen_rmsd(placed: Data | ValueError | None, truth: Data) -> float:
    r"""Root mean square distance (Å) over all atoms to the true molecule, under the best assignment of atoms of the
    same element, without superposition; infinite if there is no molecule or its atoms are others.

    Args:
        placed: The molecule with its hydrogens: ``z`` [N], ``pos`` [N, 3] in Å; :obj:`None`, or the error, for a failed
            one.
        truth: What it should be, in the same coordinates.
    """
    if not isinstance(placed, Data) or placed.z.sort().values.tolist() != truth.z.sort().values.tolist():
        return math.inf
    if not bool(placed.pos.isfinite().all()):
        return math.inf
    try:
        from scipy.optimize import linear_sum_assignment
    except ImportError as error:
        raise ImportError("this needs SciPy: pip install scipy") from error
    total = 0.0
    for z in truth.z.unique():
        a, b = (data.pos[data.z == z].detach().cpu().double() for data in (placed, truth))
        cost = (a.unsqueeze(1) - b).square().sum(dim=-1).numpy()  # cdist would lose the last digits
        total += cost[linear_sum_assignment(cost)].sum()
    return math.sqrt(total / truth.z.numel())


@dataclass(frozen=True)
class HydrogenReport:
    r"""Placed hydrogens of a set of molecules. All shares are of all molecules: a wrong number of atoms is a miss.

    Args:
        rmsd: Of each molecule, Å; infinite for a miss.
        right_count: Share whose atoms are as many as they should be, of each element.
        below: Share with an RMSD below each of :data:`THRESHOLDS`.
        mean: Mean RMSD of those with the right count, Å; NaN if there is none.
    """
    rmsd: tuple[float, ...]
    right_count: float
    below: tuple[float, ...]
    mean: float

    def __str__(self) -> str:
        shares = ', '.join(f'< {t:g} Å {share:.3f}' for t, share in zip(THRESHOLDS, self.below, strict=True))
        return f'{shares}; right count {self.right_count:.3f}, mean of those {self.mean:.3f} Å, n = {len(self.rmsd)}'


def hydrogen_report(placed: Iterable[Data | ValueError | None], truth: Sequence[Data]) -> HydrogenReport:
    r"""Compares molecules one by one; see :func:`hydrogen_rmsd`.

    Raises:
        ValueError: If the numbers of molecules differ, or there is none.
    """
    placed = list(placed)
    if len(placed) != len(truth) or not placed:
        raise ValueError(f"'placed' and 'truth' must be as many molecules, at least one "
                         f'(got {len(placed)} and {len(truth)})')
    rmsd = torch.tensor([hydrogen_rmsd(a, b) for a, b in zip(placed, truth, strict=True)], dtype=torch.double)
    finite = rmsd.isfinite()
    return HydrogenReport(tuple(rmsd.tolist()), float(finite.double().mean()),
                          tuple(float((rmsd < t).double().mean()) for t in THRESHOLDS), float(rmsd[finite].mean()))
