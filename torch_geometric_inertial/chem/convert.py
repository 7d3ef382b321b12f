r"""Molecules in whatever form a user has them."""
from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from torch_geometric.data import Batch, Data

from torch_geometric_inertial.chem.ase import from_ase
from torch_geometric_inertial.chem.formats import READERS, read_molecules, read_records
from torch_geometric_inertial.chem.mol import from_mol
from torch_geometric_inertial.chem.smiles import from_smiles

if TYPE_CHECKING:
    from ase import Atoms
    from rdkit.Chem import Mol

    Molecule: TypeAlias = Data | Mol | Atoms | str | Path

KINDS = 'a Data, an RDKit molecule, ASE atoms, a SMILES or the name of a file'


def as_data(molecule: Molecule) -> Data:
    r"""One molecule as :class:`Data`, which stays as it is.

    Args:
        molecule: A :class:`Data`, an RDKit molecule (:func:`from_mol`; embedded first where it has no conformer), ASE
            atoms (:func:`from_ase`), a SMILES (:func:`from_smiles`) or a file that holds one molecule.

    Raises:
        ValueError: If it is something else, a file of several molecules, or no molecule.
    """
    if isinstance(molecule, Data) and not isinstance(molecule, Batch):
        return molecule
    if _is_mol(molecule):
        return _from_mol(molecule)  # type: ignore[arg-type]
    if _is_atoms(molecule):
        return from_ase(molecule)  # type: ignore[arg-type]
    if isinstance(molecule, (str, Path)):
        if not _is_file(molecule):
            return from_smiles(str(molecule))
        found = read_molecules(molecule)
        if len(found) != 1:
            raise ValueError(f"'{molecule}' must hold one molecule (got {len(found)})")
        return found[0]
    raise ValueError(f'a molecule must be {KINDS} (got {type(molecule).__name__})')


def as_molecules(molecules: Molecule | Batch | Iterable[Molecule]) -> list[Data]:
    r"""Several molecules as a list of :class:`Data`: all those of a file, of a :class:`Batch`, of a data set or of any
    other iterable whose items :func:`as_data` takes, or one such item.

    Raises:
        ValueError: If an item is no molecule; it is named by its number.
    """
    found = []
    for i, item in enumerate(as_items(molecules)):
        if isinstance(item, ValueError):
            raise item if isinstance(molecules, (str, Path)) else ValueError(f'molecule {i}: {item}')
        found.append(item)
    return found


def as_items(molecules: Molecule | Batch | Iterable[Molecule | ValueError]) -> list[Data | ValueError]:
    r"""The same with the reason, a :class:`ValueError`, in the place of a record or an item that is no molecule.

    Raises:
        ValueError: If it is neither a molecule nor several items.
    """
    if isinstance(molecules, Batch):
        return molecules.to_data_list()
    if isinstance(molecules, (str, Path)) and _is_file(molecules):
        return [ValueError(record.error) if record.molecule is None else record.molecule
                for record in read_records(molecules)]
    if is_one_molecule(molecules):
        return [as_data(molecules)]  # type: ignore[arg-type]
    if not isinstance(molecules, Iterable):
        raise ValueError(f'molecules must be {KINDS}, or several of these (got {type(molecules).__name__})')
    return [_item(molecule) for molecule in molecules]


def _item(molecule: Molecule | ValueError) -> Data | ValueError:
    if isinstance(molecule, ValueError):
        return molecule
    try:
        return as_data(molecule)
    except ValueError as error:
        return error


def is_one_molecule(value: object) -> bool:
    r"""Whether :func:`as_data` takes it, rather than :func:`as_molecules` alone."""
    alone = isinstance(value, (Data, str, Path)) and not isinstance(value, Batch)
    return alone or _is_mol(value) or _is_atoms(value)


def _is_mol(value: object) -> bool:
    return 'rdkit.Chem' in sys.modules and isinstance(value, sys.modules['rdkit.Chem'].Mol)  # or there is none


def _is_atoms(value: object) -> bool:
    return 'ase' in sys.modules and isinstance(value, sys.modules['ase'].Atoms)


def _is_file(name: str | Path) -> bool:
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:] if suffix.lower() != '.gz']
    return isinstance(name, Path) or (bool(suffixes) and suffixes[-1] in READERS)


def _from_mol(mol: Mol) -> Data:
    if mol.GetNumConformers() > 0:
        return from_mol(mol)
    from rdkit import Chem

    return from_smiles(Chem.MolToSmiles(mol))
