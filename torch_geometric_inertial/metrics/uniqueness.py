r"""How many different molecules, and how many new ones."""
from collections.abc import Iterable, Sequence

from torch_geometric.data import Data

from torch_geometric_inertial.metrics.screening import Molecules
from torch_geometric_inertial.metrics.validity import validity


def uniqueness(smiles: Sequence[str | None]) -> float:
    """Different SMILES, of the valid ones (those that are not :obj:`None`); 0 if none is valid."""
    valid = [s for s in smiles if s is not None]
    return len(set(valid)) / max(len(valid), 1)


def novelty(smiles: Sequence[str | None], reference: Iterable[str]) -> float:
    """Different SMILES that the reference does not hold, of all different ones; 0 if there is none."""
    unique = {s for s in smiles if s is not None}
    return len(unique - set(reference)) / max(len(unique), 1)


def reference_smiles(molecules: Molecules | Iterable[str | Data], protocol: str = 'edm-qm9') -> frozenset[str]:
    r"""The SMILES of known molecules, by the same inference as for generated ones, so that the two can be compared.

    A collection of SMILES made by this function passes through.
    """
    if isinstance(molecules, set | frozenset):
        return frozenset(molecules)
    return frozenset(s for s in validity(molecules, protocol).smiles if s is not None)
