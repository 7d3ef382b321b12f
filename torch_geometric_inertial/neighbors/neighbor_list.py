r"""The pairs of points within a cutoff of each other."""
from __future__ import annotations

import torch
from torch import Tensor

from torch_geometric_inertial.ops.segment import segment_index


@torch.no_grad()
def neighbor_list(pos: Tensor, ptr: Tensor, cutoff: float) -> tuple[Tensor, Tensor]:
    r"""All ordered pairs within a distance, including each point with itself; time and memory linear in points.

    Args:
        pos: Points [N, 3].
        ptr: Offsets [B + 1] of the point sets, int64; pairs are formed within a set.
        cutoff: Largest distance.

    Returns:
        The first points [E], not decreasing, and the second ones [E], increasing for each first.

    Raises:
        ValueError: If the cutoff is not a positive number.
    """
    batch = segment_index(ptr, pos.size(0))
    return pairs_within(pos, batch, pos, batch, cutoff)


@torch.no_grad()
def pairs_within(pos: Tensor, batch: Tensor, other: Tensor, other_batch: Tensor,
                 cutoff: float) -> tuple[Tensor, Tensor]:
    r"""All pairs of a point and a point of a second list, within a distance and of one set, found by a grid of cells as
    wide as the cutoff.

    Args:
        pos: Points [N, 3].
        batch: Their sets [N].
        other: The points of the second list [M, 3].
        other_batch: Their sets [M].
        cutoff: Largest distance.

    Returns:
        Indices into the first list [E], not decreasing, and into the second one [E], increasing for each first.

    Raises:
        ValueError: If the cutoff is not a positive number.
    """
    if not 0 < cutoff < float('inf'):
        raise ValueError(f"'cutoff' must be positive and finite (got {cutoff})")
    if pos.size(0) == 0 or other.size(0) == 0:
        empty = torch.zeros(0, dtype=torch.int64, device=pos.device)
        return empty, empty
    pos, other = pos.double(), other.double()
    low = torch.minimum(pos.amin(0), other.amin(0))
    cell, other_cell = (((x - low) / cutoff).floor().long() + 1 for x in (pos, other))  # a margin of one on all sides
    size = torch.maximum(cell.amax(0), other_cell.amax(0)) + 2

    def key_of(batch: Tensor, cell: Tensor) -> Tensor:
        return ((batch * size[0] + cell[:, 0]) * size[1] + cell[:, 1]) * size[2] + cell[:, 2]

    key, order = key_of(other_batch, other_cell).sort()
    rows, cols = [], []
    steps = torch.arange(-1, 2, device=pos.device)
    for step in torch.cartesian_prod(steps, steps, steps):
        wanted = key_of(batch, cell + step)
        first, last = torch.searchsorted(key, wanted), torch.searchsorted(key, wanted, right=True)
        found = last - first
        row = torch.repeat_interleave(found)
        slot = torch.arange(row.numel(), device=pos.device) - (found.cumsum(0) - found)[row] + first[row]
        col = order[slot]
        near = (pos[row] - other[col]).square().sum(-1) <= cutoff ** 2
        rows.append(row[near])
        cols.append(col[near])
    row, col = torch.cat(rows), torch.cat(cols)
    by_row = (row * other.size(0) + col).argsort()
    return row[by_row], col[by_row]
