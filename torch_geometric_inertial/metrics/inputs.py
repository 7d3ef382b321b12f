r"""What :func:`evaluate` takes as molecules."""
from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_inertial.chem import as_data, is_one_molecule
from torch_geometric_inertial.chem.formats import READERS, read_records
from torch_geometric_inertial.data import molecules_of


def as_items(molecules: Any, what: str = 'molecules') -> list[Data | Exception | None]:
    r"""A list of molecules, one for each that was asked for: :obj:`None` for a missing one, and an exception for a
    record or an object that cannot be read.

    Args:
        molecules: The path of a file; a PyG object of one or several molecules; an RDKit molecule, ASE atoms or a
            SMILES; or an iterable of what :func:`as_data` takes, of :obj:`None` and of exceptions.
        what: The name of the argument, for the error.

    Raises:
        ValueError: If it is something else, or a file cannot be read.
    """
    if isinstance(molecules, (str, Path)) and _names_file(molecules):
        return [ValueError(record.error) if record.molecule is None else record.molecule
                for record in read_records(molecules)]
    if isinstance(molecules, Data):
        return list(molecules_of(molecules))
    if not isinstance(molecules, Path) and is_one_molecule(molecules):  # ASE atoms are iterable, atom by atom
        with suppress(ValueError):
            return [as_data(molecules)]
    if isinstance(molecules, (str, bytes, Path)) or not isinstance(molecules, Iterable):
        raise ValueError(f"'{what}' must be molecules, or the name of a file that ends in one of {', '.join(READERS)} "
                         f'(got {molecules!r})')
    return [_item(one) for one in molecules]


def _item(molecule: Any) -> Data | Exception | None:
    if molecule is None or isinstance(molecule, (Data, Exception)):
        return molecule
    try:
        return as_data(molecule)
    except ValueError as error:
        return error


def _names_file(name: str | Path) -> bool:
    return any(suffix.lower() in READERS for suffix in Path(name).suffixes[-2:])
