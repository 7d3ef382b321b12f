r"""Molecules to and from RDKit."""
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import (
    FLOAT_MAX,
    atom_field,
    both_directions,
    charges_of,
    check_molecule,
    find_bonds,
    graph_data,
    has_orders,
)
from torch_geometric_inertial.chem.graph import build_mol, kekule_bonds, rdkit_errors
from torch_geometric_inertial.chem.properties import Properties, properties_of, title_of

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PERCEPTIONS = ('data', 'edm', 'rdkit-ctd', 'rdkit-vdw')


def rdkit_version() -> str:
    r"""The installed RDKit's.

    Raises:
        ImportError: Without RDKit.
    """
    try:
        import rdkit
    except ImportError as error:
        raise ImportError("this needs RDKit: pip install rdkit") from error
    return rdkit.__version__


def to_mol(data: Data, perception: str | None = None, sanitize: bool = True) -> 'Mol':
    r"""An RDKit molecule with a 3D conformer from a :class:`Data` object.

    Charges, isotopes, title and properties come along. Without ``num_radical_electrons`` all atoms are taken to be
    there, and an open valence is a radical; with it, an open valence that it does not explain lacks a hydrogen.

    Args:
        data: With ``z`` [N] and ``pos`` [N, 3] in Å and, where known, ``edge_index`` [2, E] (either or both
            directions), ``edge_attr`` (bond orders 1, 2, 3, and 1.5 or 4 for aromatic, [E] or [E, 1], or one-hot [E, 4]
            as PyG's own QM9 has them), ``formal_charge`` [N], ``num_radical_electrons`` [N], ``isotope`` [N] (mass
            numbers, 0: natural), ``title``, ``finished``, ``properties``.
        perception: Where the bonds come from. ``'data'``: its edges (all single without ``edge_attr``); ``'edm'``: the
            EDM distance tables; ``'rdkit-ctd'`` and ``'rdkit-vdw'``: RDKit's own perception of a neutral molecule by
            connect-the-dots or van der Waals radii, with a bounded number of iterations. By default its edges where
            they have orders, else ``'edm'``; see :mod:`~torch_geometric_inertial.chem.bond_rules`.
        sanitize: Whether to sanitize it, which fails on impossible valences, and to read its stereo centers off the
            geometry.

    Raises:
        ValueError: If the molecule is malformed, or RDKit finds no neutral molecule in it.
    """
    if perception is not None and perception not in PERCEPTIONS:
        raise ValueError(f"'perception' must be one of {PERCEPTIONS} (got {perception!r})")
    z, pos = check_molecule(data)
    perception = perception or ('data' if has_orders(data) else 'edm')
    if perception.startswith('rdkit'):
        mol = _perceive(build_mol(z.tolist(), [], [], pos.tolist()), perception == 'rdkit-vdw')
    else:
        radicals = atom_field(data, 'num_radical_electrons')
        mol = build_mol(z.tolist(), *find_bonds(data, perception), pos.tolist(), charges_of(data),
                        implicit_hydrogens=radicals is not None)
        for atom, count in zip(mol.GetAtoms(), radicals or (), strict=False):
            if count:
                atom.SetNumRadicalElectrons(count)
                atom.SetNoImplicit(True)
    for atom, isotope in zip(mol.GetAtoms(), atom_field(data, 'isotope') or (), strict=False):
        atom.SetIsotope(isotope)
    _set_properties(mol, data)
    if sanitize:
        from rdkit import Chem

        with rdkit_errors("RDKit refuses 'data'"):
            Chem.SanitizeMol(mol)
            Chem.AssignStereochemistryFrom3D(mol)
    return mol


def _set_properties(mol: 'Mol', data: Data) -> None:
    mol.SetProp('_Name', title_of(data))
    values = properties_of(data)
    if isinstance(data.get('finished'), bool):
        values['finished'] = data.finished
    for name, value in values.items():
        if isinstance(value, bool):
            mol.SetBoolProp(name, value)
        elif isinstance(value, int) and abs(value) < 2**31:
            mol.SetIntProp(name, value)
        elif isinstance(value, float):
            mol.SetDoubleProp(name, value)
        else:
            mol.SetProp(name, str(value))


def from_mol(mol: 'Mol', conf_id: int = -1) -> Data:
    r"""A :class:`Data` object from an RDKit molecule with a 3D conformer.

    It has ``z`` [N], ``pos`` [N, 3] (float32, Å), ``edge_index`` [2, 2E] (both directions), ``edge_attr`` [2E] (Kekulé
    orders 1, 2, 3), ``formal_charge``, ``num_radical_electrons`` and ``isotope`` (mass numbers, 0: natural), [N] each,
    ``charge`` [1], the total, ``title``, ``properties``, and ``finished`` where RDKit's molecule has it. A dative bond
    becomes a single one between charges. Hydrogens that are not atoms of the molecule are not atoms here.

    Args:
        mol: The molecule; it stays as it is.
        conf_id: Which conformer; the first by default.

    Raises:
        ValueError: If there is no such conformer, it is a drawing, a position is not finite in single precision, an
            atom has no element, or a bond no order 1, 2, 3.
    """
    try:
        conformer = mol.GetConformer(conf_id)
    except ValueError:
        raise ValueError("'mol' has no conformer: embed it first" if mol.GetNumConformers() == 0 else
                         f"'conf_id' must be that of a conformer, {[c.GetId() for c in mol.GetConformers()]} "
                         f'(got {conf_id})') from None
    if not conformer.Is3D() and mol.GetNumAtoms() > 1:
        raise ValueError("'mol' must have a conformer in three dimensions (got a drawing: embed it, or call "
                         "conformer.Set3D(True) if it is flat in truth)")
    data = data_of_mol(mol, conformer.GetPositions())
    data.title = mol.GetProp('_Name') if mol.HasProp('_Name') else ''
    values = mol.GetPropsAsDict(autoConvertStrings=False)
    if isinstance(values.get('finished'), bool):
        data.finished = values.pop('finished')
    data.properties = Properties({name: value for name, value in values.items()
                                  if isinstance(value, (bool, int, float, str))})
    return data


def data_of_mol(mol: 'Mol', positions) -> Data:
    r"""Atoms and bonds of :func:`from_mol`, with positions [N, 3] (NumPy)."""
    from rdkit import Chem

    atoms = [(a.GetAtomicNum(), a.GetFormalCharge(), a.GetNumRadicalElectrons(), a.GetIsotope())
             for a in map(mol.GetAtomWithIdx, range(mol.GetNumAtoms()))]
    adjacency = Chem.GetAdjacencyMatrix(mol, useBO=True) if len(atoms) < 256 else np.zeros((0, 0))
    ends = adjacency.nonzero()
    orders = adjacency[ends]
    kinds = {mol.GetBondWithIdx(i).GetBondType() for i in range(mol.GetNumBonds())}
    if len(orders) != 2 * mol.GetNumBonds() or not {int(kind) for kind in kinds} <= {1, 2, 3}:
        bonds, shift = _plain_bonds(mol)
        atoms = [(z, charge + q, radicals, mass) for (z, charge, radicals, mass), q in zip(atoms, shift, strict=True)]
        edges = both_directions(bonds)
    else:
        edges = torch.from_numpy(np.stack([*ends, orders.astype(np.int64)]))
    data = graph_data(atoms, torch.from_numpy(positions).float().reshape(-1, 3), edges)
    if not atoms or not np.abs(positions).max() <= FLOAT_MAX or min(atoms)[0] < 1:
        check_molecule(data, "'mol'")  # says what is wrong
    return data


def _plain_bonds(mol: 'Mol') -> tuple[list[tuple[int, int, int]], list[int]]:
    r"""Kekulé bonds, a dative one as a single one between charges, which are returned; what has no order is refused."""
    from rdkit import Chem

    shift, plain = [0] * mol.GetNumAtoms(), []
    for bond, (u, v, order) in zip(mol.GetBonds(), kekule_bonds(mol), strict=True):
        if bond.GetBondType() == Chem.BondType.DATIVE:
            shift[u] += 1
            shift[v] -= 1
            order = 1
        elif order not in (1, 2, 3):
            raise ValueError(f"'mol' has a bond of type {bond.GetBondType()} between atoms {u} and {v}, "
                             'which has no order 1, 2, 3')
        plain.append((u, v, int(order)))
    return plain, shift


def _perceive(mol: 'Mol', use_vdw: bool) -> 'Mol':
    from rdkit.Chem import rdDetermineBonds

    with rdkit_errors('RDKit finds no neutral molecule in these atoms'):
        rdDetermineBonds.DetermineBonds(mol, charge=0, useVdw=use_vdw, maxIterations=1000)
    return mol
