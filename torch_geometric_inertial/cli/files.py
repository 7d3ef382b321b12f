r"""Molecules from and to files, by the ending of the name."""
from __future__ import annotations

from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_sdf, read_xyz

READERS = {'.sdf': read_sdf, '.mol': read_sdf, '.xyz': read_xyz}


def read_molecules(path: Path, on_error: str = 'skip') -> list[Data]:
    r"""The molecules of a file; broken records are named in a warning and left out.

    Raises:
        ValueError: If the ending is unknown or no molecule is left.
    """
    if path.suffix.lower() not in READERS:
        raise ValueError(f"'{path}' must end in one of {', '.join(READERS)}")
    molecules = READERS[path.suffix.lower()](path, on_error=on_error)
    if not molecules:
        raise ValueError(f"'{path}' holds no molecule")
    return molecules
