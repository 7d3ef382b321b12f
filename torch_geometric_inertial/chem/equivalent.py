r"""Which atoms of two copies of a molecule stand for each other, and which choice among equivalent ones fits best."""
from __future__ import annotations

from itertools import permutations
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_inertial.superpose import superpose, superposed_rmsd

if TYPE_CHECKING:
    from rdkit.Chem import Mol

MAX_ORDERS = 1000  #: Of a molecule; a buckyball has 120, hexane with its hydrogens 4,608.
_MAX_LEAVES = 6  # of one atom, such as in SF6


def atom_graph(mol: Mol, keep: list[int], labels: bool = True) -> Mol:
    r"""The atoms :obj:`keep` with their bonds, without bond orders and charges, so that the forms that one molecule can
    be drawn in are one graph; each atom is labelled with the number of hydrogens that it has besides (as its isotope),
    which tells C=O from C-OH."""
    from rdkit import Chem

    graph, place = Chem.RWMol(), {atom: i for i, atom in enumerate(keep)}
    for index in keep:
        atom = mol.GetAtomWithIdx(index)
        hydrogens = sum(n.GetAtomicNum() == 1 and n.GetIdx() not in place for n in atom.GetNeighbors())
        node = Chem.Atom(atom.GetAtomicNum())
        node.SetNoImplicit(True)
        if labels:
            node.SetIsotope(1 + hydrogens + atom.GetNumExplicitHs() + atom.GetNumImplicitHs())
        graph.AddAtom(node)
    for bond in mol.GetBonds():
        u, v = bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()
        if u in place and v in place:
            graph.AddBond(place[u], place[v], Chem.BondType.SINGLE)
    return graph.GetMol()


def match_orders(graph: Mol, other: Mol, limit: int = MAX_ORDERS) -> Tensor:
    r"""Orders of the atoms of :obj:`other` that make it :obj:`graph`: [P, N], where entry :math:`(p, i)` is the atom
    that stands for atom :math:`i`. Those of a graph with itself are its symmetries.

    Args:
        graph: A graph from :func:`atom_graph`.
        other: Another.
        limit: At most so many are given.

    Returns:
        Tensor: Orders [P, N], none (P = 0) if the graphs differ.
    """
    size = graph.GetNumAtoms()
    if (size, graph.GetNumBonds()) != (other.GetNumAtoms(), other.GetNumBonds()):
        return torch.empty(0, size, dtype=torch.long)
    matches = other.GetSubstructMatches(graph, uniquify=False, maxMatches=limit)
    return torch.tensor(matches, dtype=torch.long).reshape(-1, size)


def best_order(pos: Tensor, target: Tensor, orders: Tensor, leaves: list[list[int]] | None = None) -> Tensor:
    r"""The order [N] after which :obj:`pos` lies best on :obj:`target`, up to a proper rigid motion.

    Args:
        pos: Positions [N, 3].
        target: Positions [N, 3].
        orders: The choice [P, N], see :func:`match_orders`.
        leaves: Groups of equivalent end atoms of one atom, which are then exchanged among themselves as long as that
            helps, for molecules with more symmetries than could be listed.
    """
    count, size = orders.shape
    ptr = size * torch.arange(count + 1)
    rmsd = superposed_rmsd(pos[orders].reshape(-1, 3), target.repeat(count, 1), ptr)
    best = orders[int(rmsd.argmin())]
    for _ in range(5 if leaves else 0):
        before, best = best, best.clone()
        off = torch.cdist(superpose(pos[best], target, ptr[:2]), target).square()
        for group in leaves or []:
            choice = min(permutations(group), key=lambda p: float(off[list(p), group].sum()))
            best[group] = before[list(choice)]
        if torch.equal(best, before):
            break
    return best


def leaf_groups(graph: Mol) -> list[list[int]]:
    r"""Groups of two to six equal end atoms of the same atom."""
    groups: dict[tuple[int, int, int], list[int]] = {}
    for atom in graph.GetAtoms():
        if atom.GetDegree() == 1:
            parent = atom.GetNeighbors()[0].GetIdx()
            groups.setdefault((parent, atom.GetAtomicNum(), atom.GetIsotope()), []).append(atom.GetIdx())
    return [group for group in groups.values() if 2 <= len(group) <= _MAX_LEAVES]
