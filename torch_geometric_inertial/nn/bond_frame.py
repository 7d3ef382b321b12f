r"""The coordinate system in which an atom is placed, from its bonds to the atoms that are there.

The origin is its parent, the last earlier atom that it is bonded to. The first axis points along the atom to which it
closes a ring, else along the parent's first bonded neighbor; the second lies in the plane of the next one off that
line. All of it depends on earlier atoms alone, and :math:`\det R = 1`, so the density of :math:`x = o + R y` is that of
:math:`y`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Axes = Callable[[Tensor, Tensor], Tensor]  #: As :func:`bond_axes` or :func:`cartesian_axes`.
MIN_SINE = 0.3  #: Two directions span a plane if the sine of their angle exceeds this.
GRID = 2.0 ** -10  #: Å; distances are told apart this far, so that those of symmetric molecules are equal.


class BondFrame(NamedTuple):
    r"""Of T places.

    Attributes:
        origin (Tensor): [T, 3] in Å.
        axes (Tensor): Columns are the axes [T, 3, 3]; proper rotations.
        slots (Tensor): Slots of the atoms around [T, 1 + K]: the parent first.
        valid (Tensor): Which of them exist [T, 1 + K].
        offset (Tensor): Their positions in the axes [T, 1 + K, 3], Å.
    """
    origin: Tensor
    axes: Tensor
    slots: Tensor
    valid: Tensor
    offset: Tensor

    def to_local(self, pos: Tensor) -> Tensor:
        return ((pos - self.origin).unsqueeze(1) @ self.axes).squeeze(1)

    def to_global(self, local: Tensor) -> Tensor:
        return self.origin + (self.axes @ local.unsqueeze(-1)).squeeze(-1)


def bond_axes(offset: Tensor, valid: Tensor) -> Tensor:
    r"""Orthonormal axes (columns, det +1) from the first two neighbor directions that span a plane.

    Args:
        offset (Tensor): Neighbours relative to the origin, in order of preference [..., K, 3].
        valid (Tensor): Which of them exist [..., K].
    """
    fallback = torch.eye(3, dtype=offset.dtype, device=offset.device).expand(*offset.shape[:-2], 3, 3)
    candidate = torch.cat([offset, fallback], dim=-2)
    usable = torch.cat([valid, torch.ones_like(fallback[..., 0], dtype=torch.bool)], dim=-1)
    length = candidate.norm(dim=-1, keepdim=True)
    usable = usable & (length.squeeze(-1) > 1e-3)
    candidate = candidate / length.clamp(min=1e-3)

    def first_of(mask: Tensor) -> Tensor:
        index = mask.to(torch.uint8).argmax(dim=-1)[..., None, None].expand(*mask.shape[:-1], 1, 3)
        return candidate.gather(-2, index)

    e1 = first_of(usable)
    across = torch.linalg.cross(candidate, e1.expand_as(candidate))
    e2 = first_of(usable & (across.norm(dim=-1) > MIN_SINE))
    e2 = nn.functional.normalize(e2 - (e2 * e1).sum(-1, keepdim=True) * e1, dim=-1)
    return torch.cat([e1, e2, torch.linalg.cross(e1, e2)], dim=-2).mT


def cartesian_axes(offset: Tensor, valid: Tensor) -> Tensor:
    r"""Those of the coordinates themselves, whatever is around [..., 3, 3]; arguments as :func:`bond_axes`."""
    return torch.eye(3, dtype=offset.dtype, device=offset.device).expand(*offset.shape[:-2], 3, 3)


def bond_frames(pos: Tensor, order: Tensor, row: Tensor, slot: Tensor, parent: Tensor,
                num_neighbors: int, axes_of: Axes = bond_axes) -> BondFrame:
    r"""Of atoms :obj:`slot` [T] of molecules :obj:`row` [T]; atoms at later slots are not looked at.

    Args:
        pos (Tensor): Positions [B, N, 3] in Å.
        order (Tensor): Bond orders [B, N, N]; 0 where there is no bond.
        row (Tensor): [T].
        slot (Tensor): [T].
        parent (Tensor): Their parents' slots [T].
        num_neighbors (int): Atoms around :math:`K` beside the parent: those to which a ring is closed, then those
            bonded to the parent, each in the order of the sequence, then the nearest to the parent, of equally near
            ones (:data:`GRID`) the earlier.
        axes_of (callable, optional): The axes, from the positions of these relative to the parent.
            (default: :func:`bond_axes`)
    """
    slots = torch.arange(pos.size(1), device=pos.device)
    origin = pos[row, parent]
    offset = pos[row] - origin.unsqueeze(1)  # [T, N, 3]
    num = pos.size(1)
    grid = (offset.norm(dim=-1) / GRID).round().long() * num + slots
    rank = torch.where(order[row, slot] > 0, slots - 2 * num, torch.where(order[row, parent] > 0, slots - num, grid))
    last = torch.iinfo(rank.dtype).max
    hidden = (slots >= slot.unsqueeze(1)) | (slots == parent.unsqueeze(1))
    rank, index = rank.masked_fill(hidden, last).topk(min(num_neighbors, num), largest=False)
    valid = rank < last
    offset = offset.gather(1, index.unsqueeze(-1).expand(-1, -1, 3))
    axes = axes_of(offset, valid)
    offset = torch.cat([torch.zeros_like(offset[:, :1]), offset @ axes], dim=1)
    return BondFrame(origin, axes, torch.cat([parent.unsqueeze(1), index], dim=1),
                     nn.functional.pad(valid, (1, 0), value=True), offset)
