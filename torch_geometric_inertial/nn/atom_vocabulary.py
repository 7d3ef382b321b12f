r"""Types of heavy atoms that say how many hydrogens and how much valence each has.

A type is an element, its formal charge, its hydrogens and its valence (the sum of all its bond orders), so that the
valence an atom has left is known exactly while its bonds are written: valence minus hydrogens minus orders so far.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.elements import SYMBOLS


class AtomType(NamedTuple):
    r"""A kind of heavy atom: atomic number, formal charge, number of hydrogens, sum of all bond orders."""
    z: int
    charge: int
    hydrogens: int
    valence: int

    def __str__(self) -> str:
        charge = '' if self.charge == 0 else f'{self.charge:+d}'
        return f'{SYMBOLS[self.z]}{charge} with {self.hydrogens} hydrogens and valence {self.valence}'


class AtomVocabulary(nn.Module):
    r"""The types of a model as columns, and the way from atoms to types.

    Args:
        atom_types (tuple): :class:`AtomType` or tuples of four integers.

    Attributes:
        z, charge, hydrogens (Tensor): Of each type [V].
        free (Tensor): Valence for bonds to heavy atoms [V].
    """
    z: Tensor
    charge: Tensor
    hydrogens: Tensor
    free: Tensor

    def __init__(self, atom_types: tuple[tuple[int, int, int, int], ...]):
        super().__init__()
        self.atom_types = tuple(AtomType(*t) for t in atom_types)
        columns = torch.tensor(self.atom_types, dtype=torch.long).view(-1, 4)
        for name, column in zip(('z', 'charge', 'hydrogens'), columns.T, strict=False):
            self.register_buffer(name, column.contiguous(), persistent=False)
        self.register_buffer('free', columns[:, 3] - columns[:, 2], persistent=False)
        key, order = self._key(*columns.T).sort()
        self.register_buffer('_sorted_key', key, persistent=False)
        self.register_buffer('_sorted_index', order, persistent=False)

    def __len__(self) -> int:
        return len(self.atom_types)

    @staticmethod
    def _key(z: Tensor, charge: Tensor, hydrogens: Tensor, valence: Tensor) -> Tensor:
        return ((z * 64 + charge + 32) * 64 + hydrogens) * 64 + valence

    def index(self, z: Tensor, charge: Tensor, hydrogens: Tensor, valence: Tensor) -> Tensor:
        r"""Types of atoms, all [T]; -1 where the vocabulary has none."""
        key = self._key(z, charge, hydrogens, valence)
        at = torch.searchsorted(self._sorted_key, key).clamp(max=len(self) - 1)
        return torch.where(self._sorted_key[at] == key, self._sorted_index[at], -1)


def atom_types_of(data: Data) -> tuple[AtomType, ...]:
    r"""The types that molecules have, sorted: what a model that learns from them needs.

    Args:
        data (Data or Batch): :obj:`z` [T], :obj:`edge_index` [2, E] (both directions), :obj:`edge_attr` [E] (orders 1,
            2, 3) and :obj:`formal_charge` [T], 0 if it is not there.
    """
    z, (u, v), order = data.z.long(), data.edge_index, data.edge_attr.reshape(-1).long()
    charge = data.get('formal_charge')
    charge = torch.zeros_like(z) if charge is None else charge.view(-1).long()
    valence = torch.zeros_like(z).index_add(0, u, order)
    hydrogens = torch.zeros_like(z).index_add(0, u, (z[v] == 1).long())
    heavy = torch.stack([z, charge, hydrogens, valence], dim=1)[z > 1].unique(dim=0)
    return tuple(AtomType(*row) for row in heavy.tolist())
