r"""Molecules from SMILES, with a geometry."""
from __future__ import annotations

import re

from torch_geometric.data import Data

from torch_geometric_inertial.chem.conformers import embed_conformers
from torch_geometric_inertial.chem.mol import from_mol, rdkit_version

_BEYOND = re.compile(r'\[(\d{4,}|[^]]*[+-]\d{3,})[^]]*\]')  # too large for RDKit's two bytes of a mass, one of a charge


def from_smiles(smiles: str, seed: int = 0) -> Data:
    r"""A molecule with all hydrogens and a geometry by distance geometry and, where it has parameters, the MMFF94 force
    field, from its SMILES, which becomes its title; fields as of :func:`from_mol`.

    Args:
        smiles: Such as ``'CC(=O)[O-]'``.
        seed: The geometry is a function of it.

    Raises:
        ValueError: If RDKit refuses the SMILES, or finds no geometry.
        ImportError: Without RDKit.
    """
    rdkit_version()
    from rdkit import Chem, rdBase
    from rdkit.Geometry import Point3D

    if isinstance(smiles, str) and (mark := _BEYOND.search(smiles)):
        raise ValueError(f"'smiles' must be one with charges and mass numbers of atoms (got '{mark.group()}', which "
                         'RDKit stores as something else)')
    if not isinstance(smiles, str) or not smiles.strip():
        raise ValueError(f"'smiles' must be a text (got {smiles!r})")
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or mol.GetNumAtoms() == 0:
            raise ValueError(f"'smiles' must be the SMILES of a molecule (got {smiles!r}, which RDKit refuses)")
        mol = Chem.AddHs(mol)
    found = embed_conformers(mol, 1, seed)
    if found.method == 'flat':
        raise ValueError(f"'smiles' must be a molecule that distance geometry can embed (got {smiles!r})")
    mol.RemoveAllConformers()
    conformer = Chem.Conformer(mol.GetNumAtoms())
    conformer.Set3D(True)
    for i, xyz in enumerate(found.pos[0].tolist()):
        conformer.SetAtomPosition(i, Point3D(*xyz))
    mol.AddConformer(conformer)
    mol.SetProp('_Name', smiles.strip())
    return from_mol(mol)
