r"""Pairs of atoms that are near each other, for packed molecules."""
from typing import NamedTuple

import torch
from torch import Tensor

_PAIRS_AT_ONCE = 4_000_000


class Pairs(NamedTuple):
    """Pairs of atoms of the same molecule: ``ends`` [2, P] with ``ends[0] < ends[1]``, ``distance`` [P] in Å."""
    ends: Tensor
    distance: Tensor


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
