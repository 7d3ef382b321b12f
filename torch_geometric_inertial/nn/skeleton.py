r"""Molecules as bond graphs, padded: heavy atoms, then the hydrogens that their types tell."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary
from torch_geometric_inertial.nn.bond_distances import last_partner


class BondGraph(NamedTuple):
    r"""Heavy atoms and their bonds, padded.

    Attributes:
        types (Tensor): Types [B, M]; 0 where a molecule has ended.
        order (Tensor): Bond orders [B, M, M], symmetric; 0 where there is no bond.
        size (Tensor): Heavy atoms [B].
    """
    types: Tensor
    order: Tensor
    size: Tensor


class Skeleton(NamedTuple):
    r"""Atoms and bonds of molecules, hydrogens included, padded; heavy atoms first, hydrogens grouped by parent.

    Attributes:
        graph (BondGraph): The heavy atoms.
        length (Tensor): Atoms of each molecule [B].
        is_hydrogen (Tensor): [B, N].
        parent (Tensor): The last earlier atom that each is bonded to [B, N]; 0 for the first and behind the last.
        order (Tensor): Bond orders [B, N, N].
    """
    graph: BondGraph
    length: Tensor
    is_hydrogen: Tensor
    parent: Tensor
    order: Tensor


class EncodedSkeleton(NamedTuple):
    r"""What the placer knows of molecules before the first place.

    Attributes:
        atom (Tensor): Vectors [B, N, C]; a hydrogen has its parent's and a mark.
        key (Tensor): What they are to the places around them [B, N, W].
        sibling (Tensor): Hydrogens of the same atom that come before each [B, N], at most 4.
        distance (Tensor): Bonds between two atoms [B, N, N], at most 9.
    """
    atom: Tensor
    key: Tensor
    sibling: Tensor
    distance: Tensor


def skeletons(graph: BondGraph, vocabulary: AtomVocabulary) -> Skeleton:
    r"""Graphs of heavy atoms with the hydrogens that their types tell."""
    types, order, size = graph
    batch_size, num_heavy = types.shape
    device = types.device
    exists = torch.arange(num_heavy, device=device) < size.unsqueeze(1)
    hydrogens = torch.where(exists, vocabulary.hydrogens[types], 0)
    length = size + hydrogens.sum(dim=1)
    num = int(length.max())
    slot = torch.arange(num, device=device)
    is_hydrogen = (slot >= size.unsqueeze(1)) & (slot < length.unsqueeze(1))
    # hydrogen k of a molecule belongs to the first atom that has more than k with those before it
    number = (slot - size.unsqueeze(1)).clamp(min=0)
    host = (hydrogens.cumsum(dim=1).unsqueeze(1) <= number.unsqueeze(2)).sum(dim=2).clamp(max=num_heavy - 1)
    parent = torch.zeros(batch_size, num, dtype=torch.long, device=device)
    first = min(num_heavy, num)
    parent[:, :first] = last_partner(order)[:, :first].clamp(min=0)
    parent = torch.where(is_hydrogen, host, torch.where(slot < size.unsqueeze(1), parent, 0))
    whole = order.new_zeros(batch_size, num, num)
    whole[:, :first, :first] = order[:, :first, :first]
    row, at = is_hydrogen.nonzero(as_tuple=True)
    whole[row, at, parent[row, at]] = 1
    whole[row, parent[row, at], at] = 1
    return Skeleton(graph, length, is_hydrogen, parent, whole)
