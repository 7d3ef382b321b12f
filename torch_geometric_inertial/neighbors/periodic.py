r"""The pairs of points of a crystal, a slab or a wire within a cutoff of each other: points and their images."""
from __future__ import annotations

import torch
from torch import Tensor

from torch_geometric_inertial.neighbors.neighbor_list import pairs_within
from torch_geometric_inertial.ops.segment import segment_index

FLATTEST = 0.1  #: A lattice whose smallest singular value (Å) is less has no sensible cell.


@torch.no_grad()
def periodic_neighbor_list(pos: Tensor, ptr: Tensor, cell: Tensor, pbc: Tensor,
                           cutoff: float) -> tuple[Tensor, Tensor, Tensor]:
    r"""All pairs :math:`(i, j, T)` with :math:`\|r_j + T - r_i\| \le r_c`, where :math:`T` is a translation of the
    lattice: images of i itself, and i itself (:math:`T = 0`), are among them.

    Positions may lie outside of the cell; along axes that are not periodic, lattice vectors may be anything. Time and
    memory are linear in points, for a given density of cells.

    Args:
        pos: Points [N, 3].
        ptr: Offsets [B + 1] of the systems, int64.
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Whether each is a period [B, 3], bool.
        cutoff: Largest distance :math:`r_c`.

    Returns:
        i [E], not decreasing; j [E], not decreasing for each i; and whole numbers [E, 3] with :math:`T` =
        :func:`translations` of them.

    Raises:
        ValueError: If the periodic lattice vectors of a system are not independent, or the cutoff is not positive.
    """
    lattice = (cell * pbc.unsqueeze(-1)).double()
    _check_lattice(lattice, pbc)
    batch = segment_index(ptr, pos.size(0))
    reciprocal = torch.linalg.pinv(lattice)  # its columns; zero where there is no period
    home = (_rows_times(pos.double(), reciprocal, batch).floor() * pbc[batch]).long()
    points = pos.double() - translations(home, lattice, batch)
    reach = (cutoff * reciprocal.norm(dim=1)).ceil().long() * pbc  # wrapped points differ by less than a period
    size = 2 * reach + 1
    count = size.prod(1)[batch]
    col = torch.repeat_interleave(count)
    index = torch.arange(col.numel(), device=pos.device) - (count.cumsum(0) - count)[col]
    system = batch[col]
    _, b, c = size[system].unbind(1)
    shift = torch.stack([index // (b * c), index // c % b, index % c], dim=1) - reach[system]
    image = points[col] + translations(shift, lattice, system)
    low, high = (points.new_full((cell.size(0), 3), start).scatter_reduce(
        0, batch.unsqueeze(1).expand(-1, 3), points, kind)
        for start, kind in ((float('inf'), 'amin'), (-float('inf'), 'amax')))
    inside = ((image >= low[system] - cutoff) & (image <= high[system] + cutoff)).all(1).nonzero().squeeze(1)
    image, col, shift = image[inside], col[inside], shift[inside]
    row, found = pairs_within(points, batch, image, batch[col], cutoff)
    col = col[found]
    return row, col, shift[found] + home[row] - home[col]


def translations(shift: Tensor, cell: Tensor, index: Tensor) -> Tensor:
    r"""Whole numbers [E, 3] of lattice vectors of the systems :obj:`index` [E], in units of length [E, 3];
    differentiable in the cells [B, 3, 3]."""
    return _rows_times(shift.to(cell), cell, index)


def plane_spacings(cell: Tensor, pbc: Tensor) -> Tensor:
    r"""Distances of the lattice planes along each axis [B, 3], infinite along those without a period."""
    reciprocal = torch.linalg.pinv((cell * pbc.unsqueeze(-1)).double())
    return (1 / reciprocal.norm(dim=1)).masked_fill(~pbc, float('inf'))


def _check_lattice(lattice: Tensor, pbc: Tensor) -> None:
    smallest = torch.linalg.svdvals(lattice).masked_fill(
        torch.arange(3, device=pbc.device) >= pbc.sum(1, keepdim=True), float('inf')).amin(1)
    if bool((smallest < FLATTEST).any()):
        bad = int(smallest.argmin())
        raise ValueError(f"'cell' must have independent lattice vectors along the periodic axes, with a smallest "
                         f"singular value of at least {FLATTEST} Å (got {lattice[bad].tolist()}, "
                         f"{float(smallest[bad]):.3g} Å)")


def _rows_times(x: Tensor, matrix: Tensor, index: Tensor) -> Tensor:
    """x[e] @ matrix[index[e]] of [E, 3] and [B, 3, 3]."""
    return (x.unsqueeze(1) @ matrix[index]).squeeze(1)
