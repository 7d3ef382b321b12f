r"""Pairs of atoms that are near each other, for packed molecules."""
from typing import NamedTuple

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 4_000_000
#: Molecules of up to so many atoms are looked at together with others of their size.
_SMALL = 128


class AtomPairs(NamedTuple):
    """Pairs of atoms of the same molecule: ``ends`` [2, P] with ``ends[0] < ends[1]``, ``distance`` [P] in Å."""
    ends: Tensor
    distance: Tensor


def close_pairs(pos: Tensor, ptr: Tensor, cutoff: float) -> AtomPairs:
    r"""All pairs of atoms of the same molecule that are nearer than :obj:`cutoff`, sorted by their atoms.

    Works on packed molecules, in slices of bounded memory; an atom at a non-finite position is in no pair.

    Args:
        pos: Positions [T, 3] in Å.
        ptr: Molecule ``i`` is ``pos[ptr[i]:ptr[i + 1]]``; int64 [B + 1].
        cutoff: In Å.
    """
    pos = pos.to(torch.float64)
    sizes = ptr.diff()
    u, v = [ptr.new_empty(0)], [ptr.new_empty(0)]
    for size in sizes.unique().tolist():
        first = ptr[:-1][sizes == size]
        at_once = max(1, _PAIRS_AT_ONCE // max(size * size, 1))
        for some in first.split(at_once):
            near_by = _near_in_equal if size <= _SMALL else _near_in_one
            first_atom, second_atom = near_by(pos, some, size, cutoff)
            u.append(first_atom)
            v.append(second_atom)
    a, b = torch.cat(u), torch.cat(v)
    length = (pos[a] - pos[b]).square().sum(-1).sqrt()
    near = (length < cutoff).nonzero().squeeze(-1)
    near = near[torch.argsort(a[near] * pos.size(0) + b[near])]
    return AtomPairs(torch.stack([a[near], b[near]]), length[near])


def _near_in_equal(pos: Tensor, first: Tensor, size: int, cutoff: float) -> tuple[Tensor, Tensor]:
    r"""Pairs (among others) of molecules of one size, which begin at the atoms :obj:`first`, by a product of matrices,
    :math:`d^2 = p^2 + q^2 - 2 p q`, with a slack for its rounding."""
    x = pos[first.unsqueeze(1) + torch.arange(size, device=pos.device)]
    x = x - x.nan_to_num(0.0, 0.0, 0.0).mean(dim=1, keepdim=True)
    square = x.square().sum(-1)
    largest = square.nan_to_num(0.0, 0.0, 0.0).amax(dim=1, keepdim=True) if size else square
    half = torch.baddbmm(square.unsqueeze(1), x, x.mT, beta=0.5, alpha=-1)  # (q² - 2pq) / 2
    bound = 0.5 * (cutoff**2 + 1e-12 * largest + 1e-9 - square)
    near = (half < bound.unsqueeze(2)) & torch.ones(size, size, dtype=torch.bool, device=pos.device).triu(1)
    molecule, u, v = near.nonzero().unbind(1)
    return first[molecule] + u, first[molecule] + v


def _near_in_one(pos: Tensor, first: Tensor, size: int, cutoff: float) -> tuple[Tensor, Tensor]:
    r"""Pairs of large molecules, some rows at a time."""
    u, v = [], []
    for start in first.tolist():
        x = pos[start:start + size]
        for i in range(0, size, max(1, _PAIRS_AT_ONCE // size)):
            rows = x[i:i + max(1, _PAIRS_AT_ONCE // size)]
            near = (torch.cdist(rows, x, compute_mode='donot_use_mm_for_euclid_dist') < cutoff).nonzero()
            near = near[near[:, 0] + i < near[:, 1]]
            u.append(near[:, 0] + i + start)
            v.append(near[:, 1] + start)
    return torch.cat(u), torch.cat(v)
