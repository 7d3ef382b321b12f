r"""Bonds read off interatomic distances with the EDM tables (Hoogeboom et al., 2022, `arXiv:2203.17003
<https://arxiv.org/abs/2203.17003>`_): typical bond lengths, margins and allowed valences are facts in
``bond_length_tables.json``.
"""
import json
from functools import cache
from importlib.resources import files
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.chem.pairs import AtomPairs, close_pairs
from torch_geometric_inertial.elements import ATOMIC_NUMBERS, MIN_DISTANCE, SYMBOLS


class Bonds(NamedTuple):
    """Bonds of a packed set of molecules: ``ends`` [2, E] with ``ends[0] < ends[1]``, ``order`` [E] in {1, 2, 3}."""
    ends: Tensor
    order: Tensor


@cache
def _tables() -> dict:
    return json.loads(files('torch_geometric_inertial.chem').joinpath('bond_length_tables.json').read_text())


@cache
def longest_bonds() -> Tensor:
    """The distance (pm) below which a pair of elements has order 1, 2, 3: [3, Z, Z], 0 where there is no such bond."""
    tables, limit = _tables(), torch.zeros(3, len(SYMBOLS), len(SYMBOLS), dtype=torch.float64)
    for order, name in enumerate(('single', 'double', 'triple')):
        for a, row in tables[name].items():
            for b, length in row.items():
                limit[order, ATOMIC_NUMBERS[a], ATOMIC_NUMBERS[b]] = length + tables['margin'][name]
    return torch.maximum(limit, limit.transpose(1, 2))  # C=S stands in the tables once


@cache
def allowed_valences() -> Tensor:
    """Whether an element (row) may have a valence (column, the last one stands for "more"): bool [Z, 8]."""
    allowed = torch.zeros(len(SYMBOLS), 8, dtype=torch.bool)
    for symbol, valences in _tables()['allowed_valence'].items():
        allowed[ATOMIC_NUMBERS[symbol], valences] = True
    return allowed


def table_bonds(z: Tensor, pos: Tensor, ptr: Tensor) -> Bonds:
    r"""Bonds and their orders by the EDM rule: a pair has order 1 below the single-bond length plus 10 pm, order 2 if
    it is also below the double-bond length plus 5 pm, order 3 if also below the triple-bond length plus 3 pm.

    Coincident atoms (nearer than :data:`MIN_DISTANCE`) and pairs that are not in the tables have no bond.

    Args:
        z: Atomic numbers [T].
        pos: Positions [T, 3] in Å.
        ptr: Molecule boundaries [B + 1].
    """
    return pair_bonds(z, close_pairs(pos, ptr, float(longest_bonds().max()) / 100))


def pair_bonds(z: Tensor, pairs: AtomPairs) -> Bonds:
    r"""The bonds of :func:`table_bonds` among pairs of atoms that are near each other."""
    z = z.clamp(0, len(SYMBOLS) - 1)
    limit = longest_bonds().to(z.device)[:, z[pairs.ends[0]], z[pairs.ends[1]]]  # [3, P]
    order = (100 * pairs.distance < limit).cumprod(0).sum(0) * (pairs.distance >= MIN_DISTANCE)
    bonded = order.nonzero().squeeze(-1)
    return Bonds(pairs.ends[:, bonded], order[bonded])


def valences(bonds: Bonds, num_atoms: int) -> Tensor:
    """The sum of the bond orders at each atom: int64 [num_atoms]."""
    out = bonds.order.new_zeros(num_atoms)
    for end in bonds.ends:
        out.index_add_(0, end, bonds.order)
    return out
