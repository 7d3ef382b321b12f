r"""Molecules from and to files of any format, by the ending of the name, before which ``.gz`` may stand."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem.jsonl import JSONL, write_jsonl
from torch_geometric_inertial.chem.pdb import PDB
from torch_geometric_inertial.chem.records import Format, Record, read_list, stream
from torch_geometric_inertial.chem.sdf import SDF, write_sdf
from torch_geometric_inertial.chem.xyz import XYZ, write_xyz

READERS: dict[str, Format] = {'.sdf': SDF, '.mol': SDF, '.xyz': XYZ, '.jsonl': JSONL, '.pdb': PDB}
WRITERS: dict[str, Callable[..., int]] = {'.sdf': write_sdf, '.xyz': write_xyz, '.jsonl': write_jsonl}


def read_records(path: str | Path, fields: Sequence[str] = ()) -> Iterator[Record]:
    r"""The records of a file of any size, one after the other, so that none leaves the count: each with its number in
    the file, counted from 0, its title, and its molecule or the reason why it has none.

    >>> for number, molecule, error, title in read_records('molecules.sdf.gz'):  # doctest: +SKIP
    ...     print(number, title, error or molecule)

    Args:
        path: SDF, mol, XYZ, JSONL or PDB, as the ending of its name says; ``.gz`` after it for a compressed file.
        fields: Names of properties to have as tensors [1], too; see :func:`read_sdf`.

    Raises:
        ValueError: If the ending is unknown, or the file holds no record.
    """
    return stream(path, READERS[ending(path, READERS)], fields)


def read_molecules(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""The molecules of a file, see :func:`read_records`; a bad record is an error, or left out with a warning that
    names it (``on_error='skip'``).

    Raises:
        ValueError: If the ending is unknown, or the file holds no record, or a bad one.
    """
    return read_list(path, READERS[ending(path, READERS)], on_error, fields)


def write_molecules(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules as they come, and returns how many; see :func:`write_sdf`.

    Raises:
        ValueError: If the ending is unknown (before anything is computed).
    """
    write = WRITERS[ending(path, WRITERS)]
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return write(molecules, path, on_error=on_error)


def ending(path: str | Path, known: Iterable[str]) -> str:
    r"""The ending that tells the format.

    Raises:
        ValueError: If it is none of these.
    """
    name = Path(path).name.lower().removesuffix('.gz')
    found = Path(name).suffix
    if found not in known:
        raise ValueError(f"'{path}' must end in one of {', '.join(known)} (or these and .gz)")
    return found
