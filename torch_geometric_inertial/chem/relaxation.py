r"""From the text of a data set, SMILES and molfiles, to what a model reads and what it should give."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.chem.conformers import METHODS, embed_conformers
from torch_geometric_inertial.chem.equivalent import (
    MAX_ORDERS,
    atom_graph,
    best_order,
    leaf_groups,
    match_orders,
)
from torch_geometric_inertial.superpose import superpose

if TYPE_CHECKING:
    from rdkit.Chem import Mol


class Relaxation(NamedTuple):
    r"""A molecule before and after relaxation.

    Attributes:
        z (Tensor): Atomic numbers [N], uint8.
        relaxed (Tensor, optional): The relaxed geometry [N, 3] (Å).
        conformers (Tensor, optional): Cheap geometries [N, K, 3] (Å); where there are fewer than K, they recur.
        num_conformers (int, optional): How many differ.
        method (int, optional): Their kind, a place in :data:`~torch_geometric_inertial.chem.conformers.METHODS`.
    """
    z: Tensor
    relaxed: Tensor | None
    conformers: Tensor | None = None
    num_conformers: int | None = None
    method: int | None = None


def read_relaxation(smiles: str | None, block: str | None, num_conformers: int, hydrogens: bool,
                    seed: int) -> Relaxation:
    r"""Reads a molecule and makes its conformers.

    The graph comes from the SMILES, where there is one, and the relaxed geometry from the molfile, in the order of the
    SMILES. Atoms that the graph does not tell apart are matched by geometry: the relaxed one to the first conformer,
    then each conformer to the relaxed one, on which it is laid by a proper motion. So a model is not asked which of
    two equivalent atoms is meant.

    Args:
        smiles: The molecule's SMILES.
        block: Its molfile, with coordinates in Å.
        num_conformers: K; with 0 the molfile is read as it is, and its graph need not make sense.
        hydrogens: Whether to keep them. Otherwise they take part in making conformers and are then dropped (unless
            there is nothing else).
        seed: From 0 to 2³¹ - 1.

    Raises:
        ValueError: If there is neither SMILES nor molfile, RDKit refuses the molecule, or the two are different
            molecules.
    """
    from rdkit import Chem, rdBase

    if smiles is None and block is None:
        raise ValueError("give 'smiles', 'block' or both")
    with rdBase.BlockLogs():
        label = None if block is None else _from_block(block)
        if num_conformers == 0 and label is not None:
            kept = _kept(label, hydrogens)
            return Relaxation(_elements(label, kept), _positions(label)[kept])
        mol = Chem.AddHs(_checked(smiles, label))
        kept = _kept(mol, hydrogens)
        pos, method = embed_conformers(mol, num_conformers, seed)
        pos, relaxed = pos[:, kept], None
        if label is not None:
            graph = atom_graph(mol, kept)
            relaxed = _ordered_label(label, mol, hydrogens, pos[0], keep_order=smiles is None)
            symmetries = match_orders(graph, graph)
            leaves = leaf_groups(graph) if len(symmetries) == MAX_ORDERS else None
            ptr = torch.tensor([0, len(kept)])
            pos = torch.stack([superpose(x[best_order(x, relaxed, symmetries, leaves)], relaxed, ptr) for x in pos])
    recurring = torch.arange(num_conformers) % len(pos)
    return Relaxation(_elements(mol, kept), relaxed, pos[recurring].transpose(0, 1).contiguous(), len(pos),
                      METHODS.index(method))


def _from_block(block: str) -> Mol:
    from rdkit import Chem

    label = Chem.MolFromMolBlock(block, sanitize=False, removeHs=False, strictParsing=False)
    if label is None or label.GetNumAtoms() == 0 or label.GetNumConformers() == 0:
        raise ValueError('RDKit cannot read the molfile')
    if not bool(_positions(label).isfinite().all()):
        raise ValueError('a coordinate of the molfile is not finite')
    label.UpdatePropertyCache(strict=False)
    return label


def _checked(smiles: str | None, label: Mol | None) -> Mol:
    from rdkit import Chem

    if smiles is not None:
        mol = Chem.MolFromSmiles(smiles)
        if mol is None or mol.GetNumAtoms() == 0:
            raise ValueError('RDKit refuses the SMILES')
        return mol
    assert label is not None
    mol = Chem.Mol(label)
    if Chem.SanitizeMol(mol, catchErrors=True) != Chem.SanitizeFlags.SANITIZE_NONE:
        raise ValueError('RDKit refuses the molfile')
    Chem.AssignStereochemistryFrom3D(mol)
    return mol


def _ordered_label(label: Mol, mol: Mol, hydrogens: bool, conformer: Tensor, keep_order: bool) -> Tensor:
    r"""The label's positions in the order of the molecule's kept atoms [N, 3]."""
    kept, label_kept = _kept(mol, hydrogens), _kept(label, hydrogens)
    pos = _positions(label)[label_kept]
    if keep_order and len(kept) == len(label_kept):
        return pos
    bare = all(atom.GetAtomicNum() > 1 for atom in label.GetAtoms())  # of hydrogens: how many is but a guess
    for labels in (True, False) if bare else (True, ):
        graph = atom_graph(mol, kept, labels)
        orders = match_orders(graph, atom_graph(label, label_kept, labels))
        if len(orders):
            leaves = leaf_groups(graph) if len(orders) == MAX_ORDERS else None
            return pos[best_order(pos, conformer, orders, leaves)]
    raise ValueError(f'SMILES and molfile are different molecules ({len(kept)} and {len(label_kept)} atoms)')


def _kept(mol: Mol, hydrogens: bool) -> list[int]:
    heavy = [atom.GetIdx() for atom in mol.GetAtoms() if atom.GetAtomicNum() > 1]
    return heavy if heavy and not hydrogens else list(range(mol.GetNumAtoms()))


def _elements(mol: Mol, kept: list[int]) -> Tensor:
    return torch.tensor([mol.GetAtomWithIdx(i).GetAtomicNum() for i in kept], dtype=torch.uint8)


def _positions(mol: Mol) -> Tensor:
    return torch.from_numpy(mol.GetConformer().GetPositions()).float().reshape(-1, 3)
