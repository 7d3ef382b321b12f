r"""Where the next atom goes, relative to what: the coordinate that the diffusion head models.

Each atom :math:`t` has an origin :math:`o_t` and axes :math:`R_t` that depend on the atoms before it alone; the model
predicts :math:`y_t = R_t^\top (x_t - o_t)`. As :math:`\det R_t = 1`, the density of :math:`x_t` is that of :math:`y_t`.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

BOND_SCALE = 1.2  #: Two atoms count as neighbors within this multiple of the sum of their covalent radii.
MIN_SINE = 0.3  #: Two directions span a plane if the sine of their angle exceeds this.


class LocalFrame(NamedTuple):
    r"""What stands around the place of the next atom.

    Attributes:
        origin (Tensor): [B, Q, 3] in Å.
        axes (Tensor): Columns are the axes [B, Q, 3, 3]; proper rotations.
        slots (Tensor): Where the atoms nearest to the origin stand in the sequence [B, Q, K].
        valid (Tensor): Which of them exist [B, Q, K].
        offset (Tensor): Their positions in the axes [B, Q, K, 3].
    """
    origin: Tensor
    axes: Tensor
    slots: Tensor
    valid: Tensor
    offset: Tensor

    def map(self, function: Callable[[Tensor], Tensor]) -> LocalFrame:
        r"""The same for other queries: applies :obj:`function` to each tensor."""
        return LocalFrame(*map(function, self))

    def to_local(self, pos: Tensor) -> Tensor:
        return ((pos - self.origin).unsqueeze(-2) @ self.axes).squeeze(-2)

    def to_global(self, local: Tensor) -> Tensor:
        return self.origin + (self.axes @ local.unsqueeze(-1)).squeeze(-1)


def find_parents(pos: Tensor, radius: Tensor) -> Tensor:
    r"""The earlier atom that each atom is bonded to: the least :math:`d_{ij} - r_i - r_j` over :math:`j < i`.

    Args:
        pos (Tensor): Positions [B, N, 3] in sequence order, Å.
        radius (Tensor): Covalent radii [B, N] in Å.

    Returns:
        Tensor: Slots [B, N]; 0 for the first atom, which has no parent.
    """
    excess = (pos.unsqueeze(2) - pos.unsqueeze(1)).norm(dim=-1) - radius.unsqueeze(1)
    later = torch.ones(pos.size(1), pos.size(1), dtype=torch.bool, device=pos.device).triu()
    return excess.masked_fill(later, torch.inf).argmin(dim=-1)


def gather_slots(x: Tensor, index: Tensor) -> Tensor:
    r"""[B, N, ...] and slots [B, ...] -> [B, ..., ...]."""
    rows = torch.arange(x.size(0), device=x.device).view(-1, *[1] * (index.dim() - 1))
    return x[rows, index]


class LocalFrameBuilder(nn.Module):
    r"""The coordinate system of the next atom.

    Args:
        target (str): :obj:`'absolute'`: the canonical frame itself (the papers); :obj:`'local'` (the presets of
            InertialAR but :obj:`paper`): origin at the parent and axes from the parent's neighbors:
            the first along the first neighbor (bonded ones in sequence order, then by distance), the second in the
            plane of the next neighbor off that line; the canonical axes stand in where neighbors are missing.
        num_neighbors (int): Number :math:`K` of atoms around the parent that are returned; may be 0.
    """
    def __init__(self, target: str, num_neighbors: int = 16):
        super().__init__()
        if target not in ('absolute', 'local'):
            raise ValueError(f"'coordinate_target' must be 'absolute' or 'local' (got '{target}')")
        self.target, self.num_neighbors = target, num_neighbors

    @property
    def has_parent(self) -> bool:
        return self.target != 'absolute'

    def forward(self, pos: Tensor, radius: Tensor, parent: Tensor, count: Tensor) -> LocalFrame:
        r"""
        Args:
            pos (Tensor): Positions of placed atoms [B, N, 3].
            radius (Tensor): Their covalent radii [B, N].
            parent (Tensor): Slot of the parent of each query [B, Q].
            count (Tensor): Number of atoms placed before each query [B, Q]; slots from there on are not looked at.
        """
        if self.num_neighbors == 0 and self.target == 'absolute':
            return self._origin(pos, parent)
        center, first = gather_slots(pos, parent), (count == 0).unsqueeze(-1)
        offset = pos.unsqueeze(1) - center.unsqueeze(2)  # [B, Q, N, 3]
        distance = offset.norm(dim=-1)
        slot = torch.arange(pos.size(1), device=pos.device)
        bonded = distance < BOND_SCALE * (radius.unsqueeze(1) + gather_slots(radius, parent).unsqueeze(2))
        rank = torch.where(bonded, slot.to(distance.dtype), 1e3 + distance)
        rank = rank.masked_fill((slot >= count.unsqueeze(-1)) | (slot == parent.unsqueeze(-1)), torch.inf)
        rank, index = (x[..., :self.num_neighbors] for x in rank.sort(dim=-1, stable=True))  # ties by sequence
        valid = rank.isfinite()
        offset = offset.gather(2, index.unsqueeze(-1).expand(*index.shape, 3))
        if self.target == 'absolute':
            center = torch.zeros_like(center)
        axes = torch.eye(3, dtype=pos.dtype, device=pos.device).expand(*center.shape, 3)
        if self.target == 'local':
            axes = torch.where(first.unsqueeze(-1), axes, local_axes(offset, valid))
        return LocalFrame(torch.where(first, 0, center), axes, index, valid, offset @ axes)

    def _origin(self, pos: Tensor, parent: Tensor) -> LocalFrame:
        r"""The canonical frame with nothing around it, without looking at distances."""
        shape = parent.shape
        return LocalFrame(pos.new_zeros(*shape, 3), torch.eye(3, dtype=pos.dtype, device=pos.device).expand(
            *shape, 3, 3), parent.new_zeros(*shape, 0), parent.new_zeros(*shape, 0, dtype=torch.bool),
            pos.new_zeros(*shape, 0, 3))


def local_axes(offset: Tensor, valid: Tensor) -> Tensor:
    r"""Orthonormal axes (columns, det +1) from the first two neighbor directions that span a plane.

    Args:
        offset (Tensor): Neighbors relative to the origin, in order of preference [..., K, 3].
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
