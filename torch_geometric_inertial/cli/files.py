r"""Molecules from and to files, as the commands take them."""
from __future__ import annotations

import sys
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial import chem
from torch_geometric_inertial.chem.records import Record, warn_left_out
from torch_geometric_inertial.cli.interrupt import Stoppable


def read_records(path: Path, fields: Sequence[str] = ()) -> list[Record]:
    r"""The records of a file that have a molecule, with their numbers in it; see :func:`all_records`."""
    return [record for record in all_records(path, fields) if record.molecule is not None]


def all_records(path: Path, fields: Sequence[str] = ()) -> list[Record]:
    r"""The records of a file in their places; those without a molecule are named in a warning.

    Raises:
        ValueError: If the ending is unknown, or no record has a molecule.
    """
    records = list(chem.read_records(path, fields))
    bad = [str(record.error) for record in records if record.molecule is None]
    warn_left_out(bad, path)
    if len(bad) == len(records):
        raise ValueError(f"'{path}' holds no molecule that can be read; {bad[0]}")
    return records


def write_molecules(molecules: Iterable[Data], path: Path) -> int:
    r"""Writes molecules as they come; malformed ones are named in a warning and left out. SIGINT and SIGTERM leave a
    whole file with what came before them, and end the command with status 130 or 143.

    Raises:
        ValueError: If the ending is unknown (before anything is computed), or nothing can be written: a file that was
            there stays as it is.
    """
    with Stoppable() as stop:
        count = chem.write_molecules(stop.until_stopped(molecules), path, on_error='skip')
        if stop.number is not None:
            print(f'wrote {count} molecules to {path} before the interrupt', file=sys.stderr)
        stop.check()
    return count


def refuse(record: Record, error: ValueError) -> None:
    r"""Says on stderr what a model cannot read, by its number in the file and its name."""
    print(f'{record.number:6} {name_of(record)}: {error}', file=sys.stderr)


@contextmanager
def warnings_name(record: Record) -> Iterator[None]:
    r"""What a model warns of goes to stderr with the number of the molecule in the file and its name."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        yield
    for warning in caught:
        print(f'{record.number:6} {name_of(record)}: {warning.message}', file=sys.stderr)


def place_of(record: Record, path: Path) -> str:
    r"""Where a record stands: the file, its number and its title, as the errors of readers have it."""
    return f'{path}: record {record.number}' + (f" ('{record.title}')" if record.title else '')


def name_of(record: Record) -> str:
    r"""What messages and files call a record: its title, or its number in the file, counted from 0."""
    return record.title or f'molecule {record.number}'
