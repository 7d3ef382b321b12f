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

from torch_geometric_inertial.elements import ATOMIC_NUMBERS, SYMBOLS

#: Two atoms nearer than this (Å) are one atom written twice, not a bond.
COINCIDENT = 0.4

_PAIRS_AT_ONCE = 4_000_000


class Pairs(NamedTuple):
    """Pairs of atoms of the same molecule: ``ends`` [2, P] with ``ends[0] < ends[1]``, ``distance`` [P] in Å."""
    ends: Tensor
    distance: Tensor


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


def close_pairs(pos: Tensor, ptr: Tensor, cutoff: float) -> Pairs:
    r"""All pairs of atoms of the same molecule that are nearer than :obj:`cutoff`.

    Works on packed molecules, in slices of bounded memory; an atom at a non-finite position is in no pair.

    Args:
        pos: Positions [T, 3] in Å.
        ptr: Molecule ``i`` is ``pos[ptr[i]:ptr[i + 1]]``; int64 [B + 1].
        cutoff: In Å.
    """
    pos = pos.to(torch.float64)
    atom = torch.arange(pos.size(0), device=pos.device)
    partners = torch.repeat_interleave(ptr[1:], ptr.diff()) - atom - 1  # the later atoms of the same molecule
    written = partners.cumsum(0)  # pairs up to and with each atom
    ends, distance = [], []
    start = 0
    while start < pos.size(0):
        done = int(written[start - 1]) if start else 0
        stop = max(start + 1, int(torch.searchsorted(written, done + _PAIRS_AT_ONCE, right=True)))
        count = partners[start:stop]
        u = torch.repeat_interleave(atom[start:stop], count)
        first = written[start:stop] - count - done
        v = torch.arange(u.numel(), device=pos.device) - torch.repeat_interleave(first, count) + u + 1
        length = (pos[u] - pos[v]).square().sum(-1).sqrt()
        near = (length < cutoff).nonzero().squeeze(-1)
        ends.append(torch.stack([u[near], v[near]]))
        distance.append(length[near])
        start = stop
    if not ends:
        return Pairs(ptr.new_empty(2, 0), pos.new_empty(0))
    return Pairs(torch.cat(ends, dim=1), torch.cat(distance))


def table_bonds(z: Tensor, pos: Tensor, ptr: Tensor) -> Bonds:
    r"""Bonds and their orders by the EDM rule: a pair has order 1 below the single-bond length plus 10 pm, order 2 if
    it is also below the double-bond length plus 5 pm, order 3 if also below the triple-bond length plus 3 pm.

    Coincident atoms (nearer than :data:`COINCIDENT`) and pairs that are not in the tables have no bond.

    Args:
        z: Atomic numbers [T].
        pos: Positions [T, 3] in Å.
        ptr: Molecule boundaries [B + 1].
    """
    pairs = close_pairs(pos, ptr, float(longest_bonds().max()) / 100)
    z = z.clamp(0, len(SYMBOLS) - 1)
    limit = longest_bonds().to(pos.device)[:, z[pairs.ends[0]], z[pairs.ends[1]]]  # [3, P]
    order = (100 * pairs.distance < limit).cumprod(0).sum(0) * (pairs.distance >= COINCIDENT)
    bonded = order.nonzero().squeeze(-1)
    return Bonds(pairs.ends[:, bonded], order[bonded])


def valences(bonds: Bonds, num_atoms: int) -> Tensor:
    """The sum of the bond orders at each atom: int64 [num_atoms]."""
    out = bonds.order.new_zeros(num_atoms)
    for end in bonds.ends:
        out.index_add_(0, end, bonds.order)
    return out
