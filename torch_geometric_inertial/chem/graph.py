r"""Molecular graphs in RDKit's form: what the other modules build their molecules from."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rdkit.Chem import Mol

AROMATIC = 4  #: The bond type of molfiles; in ``edge_attr``, 1.5 and the fourth class of a one-hot row mean it, too.


@contextmanager
def rdkit_errors(what: str) -> Iterator[None]:
    r"""RDKit is silent, and what it raises, RuntimeErrors of many lines among it, becomes a ValueError of one line
    behind :obj:`what`."""
    from rdkit import rdBase

    try:
        with rdBase.BlockLogs():
            yield
    except (ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f'{what}: {" ".join(str(error).split())[:200]}') from error


def build_mol(
    z: list[int],
    bonds: list[tuple[int, int]],
    orders: list[int],
    pos: list[list[float]] | None = None,
    charges: list[int] | None = None,
    implicit_hydrogens: bool = False,
) -> 'Mol':
    r"""An unsanitized RDKit molecule from atoms and bonds.

    Args:
        z: Atomic numbers.
        bonds: Pairs of atom indices.
        orders: Bond orders 1, 2, 3, or 4 (aromatic), one per bond.
        pos: Positions in Å, stored as a conformer.
        charges: Formal charges.
        implicit_hydrogens: Whether RDKit may think of hydrogens that are not there, as EDM's metric lets it. Otherwise
            an open valence is a radical.
    """
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE,
             AROMATIC: Chem.BondType.AROMATIC}
    mol = Chem.RWMol()
    for i, number in enumerate(z):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(not implicit_hydrogens)
        if charges is not None:
            atom.SetFormalCharge(charges[i])
        mol.AddAtom(atom)
    for (u, v), order in zip(bonds, orders, strict=True):
        mol.AddBond(u, v, kinds[order])
        if order == AROMATIC:
            mol.GetBondBetweenAtoms(u, v).SetIsAromatic(True)
            mol.GetAtomWithIdx(u).SetIsAromatic(True)
            mol.GetAtomWithIdx(v).SetIsAromatic(True)
    if pos is not None:
        conformer = Chem.Conformer(len(z))
        conformer.Set3D(True)
        for i, xyz in enumerate(pos):
            conformer.SetAtomPosition(i, Point3D(*xyz))
        mol.AddConformer(conformer)
    return mol.GetMol()


def kekule_bonds(mol: 'Mol', what: str = "'mol'") -> list[tuple[int, int, float]]:
    r"""The bonds of a molecule (u, v, order) in one of its Kekulé forms; it stays as it is.

    Raises:
        ValueError: If it has none.
    """
    from rdkit import Chem

    if not any(bond.GetIsAromatic() for bond in mol.GetBonds()):
        return [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble()) for b in mol.GetBonds()]
    mol = Chem.Mol(mol)
    with rdkit_errors(f'{what} has aromatic bonds without a Kekulé form'):
        mol.UpdatePropertyCache(strict=False)
        Chem.Kekulize(mol, clearAromaticFlags=True)
    return [(b.GetBeginAtomIdx(), b.GetEndAtomIdx(), b.GetBondTypeAsDouble()) for b in mol.GetBonds()]
