r"""Molecules from and to files, as the commands take them."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial import chem
from torch_geometric_inertial.chem.records import Record, warn_left_out


def read_records(path: Path, fields: Sequence[str] = ()) -> list[Record]:
    r"""All records of a file, so that none leaves the count; bad ones are named in a warning.

    Raises:
        ValueError: If the ending is unknown, or no record has a molecule.
    """
    records = list(chem.read_records(path, fields))
    warn_left_out([str(record.error) for record in records if record.molecule is None], path)
    if all(record.molecule is None for record in records):
        raise ValueError(f"'{path}' holds no molecule that can be read; {records[0].error}")
    return records


def read_molecules(path: Path, on_error: str = 'skip', fields: Sequence[str] = ()) -> list[Data]:
    r"""The molecules of a file; broken records are named in a warning and left out.

    Args:
        path: The file.
        on_error: :obj:`'skip'` or :obj:`'raise'`.
        fields: Names of the numbers that the file has about its molecules, to have as tensors [1].

    Raises:
        ValueError: If the ending is unknown or no molecule is left.
    """
    if on_error == 'raise':
        return chem.read_molecules(path, 'raise', fields)
    return [record.molecule for record in read_records(path, fields) if record.molecule is not None]


def write_molecules(molecules: Iterable[Data], path: Path) -> int:
    r"""Writes molecules as they come; malformed ones are named in a warning and left out.

    Raises:
        ValueError: If the ending is unknown (before anything is computed).
    """
    return chem.write_molecules(molecules, path, on_error='skip')
