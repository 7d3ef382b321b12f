r"""How many molecules are new."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch_geometric_inertial.metrics.figure import Figure, fraction


def novelty(smiles: Sequence[str | None], known: Iterable[str]) -> Figure:
    """Different SMILES that are not among the known, of all different ones."""
    unique = {s for s in smiles if s is not None}
    return fraction(len(unique - set(known)), len(unique), 'unique')
