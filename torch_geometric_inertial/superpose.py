r"""Laying one point set on another by a rigid motion (Kabsch 1976)."""
from __future__ import annotations

import torch
from torch import Tensor

from torch_geometric_inertial.ops.segment import segment_index, segment_mean, segment_sum


@torch.no_grad()
def kabsch_rotations(pos: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
    r"""The proper rotations :math:`R_b` that minimize :math:`\sum_i \lVert R_b p_i - q_i \rVert^2` over the atoms of
    each molecule, about the two centroids.

    Computed in float64, for point sets of any rank: one atom or a line leave some of the rotation free, and any of the
    best ones is given. Not differentiated: the rotation is a minimum, so errors that remain have the right derivative
    with :math:`R_b` as a constant.

    Args:
        pos (Tensor): Points :math:`p` [T, 3].
        target (Tensor): Points :math:`q` [T, 3], in the same order.
        ptr (Tensor): Offsets of the molecules [B + 1].

    Returns:
        Tensor: Rotations [B, 3, 3], float64, determinant +1.

    Raises:
        ValueError: If the shapes do not match or a coordinate is not finite.
    """
    if pos.dim() != 2 or pos.size(1) != 3 or target.shape != pos.shape:
        raise ValueError(f"'pos' and 'target' must be [T, 3] (got {list(pos.shape)} and {list(target.shape)})")
    p, q = centered(pos.double(), ptr), centered(target.double(), ptr)
    spread = segment_sum((p.unsqueeze(2) * q.unsqueeze(1)).flatten(1), ptr).view(-1, 3, 3)
    if not bool(spread.isfinite().all()):
        raise ValueError(f"'pos' and 'target' must be finite (got molecule "
                         f"{int((~spread.isfinite()).flatten(1).any(1).nonzero()[0])} that is not)")
    u, _, vh = torch.linalg.svd(spread)
    v = vh.mT.clone()
    v[:, :, 2] *= torch.linalg.det(u @ vh).sign().unsqueeze(1)  # the least direction pays for a reflection
    return v @ u.mT


def superpose(pos: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
    r"""Points :math:`p` [T, 3] moved rigidly onto :math:`q` [T, 3], molecule by molecule; see
    :func:`kabsch_rotations`."""
    turn = kabsch_rotations(pos, target, ptr)[segment_index(ptr, pos.size(0))]
    moved = torch.einsum('tij,tj->ti', turn, centered(pos.double(), ptr)) + target.double() - centered(
        target.double(), ptr)
    return moved.to(pos.dtype)


def superposed_rmsd(pos: Tensor, target: Tensor, ptr: Tensor) -> Tensor:
    r"""Root mean square distance over the atoms of each molecule after :func:`superpose` [B], float64."""
    off = superpose(pos.double(), target.double(), ptr) - target.double()
    return segment_mean(off.square().sum(1), ptr).sqrt()


def centered(pos: Tensor, ptr: Tensor) -> Tensor:
    r"""Points [T, 3] with the centroid of each molecule at the origin."""
    return pos - segment_mean(pos, ptr)[segment_index(ptr, pos.size(0))]
