r"""Canonical body frames of point sets: pure tensor geometry, batched, in float64.

A frame is chosen in two steps. The eigenvectors of the inertia tensor leave a *finite* set of candidate frames: four
where the moments differ, and frames spanned by atoms where two or three of them agree. Among the candidates the one
with the largest *score* wins. The score is a continuous function of the positions (the paper's farthest-atom rule plus
a small generic function of the whole set), so a molecule sits at a jump only where two scores agree exactly; and two
candidates whose scores agree exactly because of symmetry carry the same point set, so that it does not matter which of
them is taken. No list is rounded and nothing is sorted.
"""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.elements import MAX_COORDINATE, MIN_DISTANCE, SYMBOLS
from torch_geometric_inertial.frame_candidates import (
    CHUNK,
    LINEAR,
    candidates,
    descriptors,
    max_by,
    molecule_of,
    sum_by,
)

#: Two principal moments closer than this share of the largest one count as equal.
MOMENT_TOLERANCE = 1e-3
#: Weight (Å) of the generic function that settles ties of the farthest-atom rule.
TIE_WEIGHT = 0.1
#: Distance (Å) from a sign plane below which an atom gradually loses its say as an anchor.
PLANE_WIDTH = 0.1

FARTHEST = 1e5  #: Å, along an axis: beyond, no tolerance tells equal moments from others.
_SAME_SET = 0.03  # two candidates whose set descriptors differ by less carry the same set
_SWEEP = (0.7385, 0.5477, 0.3932)  # generic, so that few atoms of a plane or a chain are level along it
_WAVE_WEIGHTS = (0.31, 0.24, 0.17, 0.13, 0.09, 0.06)


class Frames(NamedTuple):
    r"""Frames of :math:`B` point sets: :obj:`center` :math:`[B, 3]` (Å), :obj:`axes` :math:`[B, 3, 3]` (the axes are
    the columns, determinant +1), :obj:`margin` :math:`[B]` (see :func:`inertial_frames`)."""
    center: Tensor
    axes: Tensor
    margin: Tensor


def inertial_frames(
    pos: Tensor,
    z: Tensor,
    ptr: Tensor,
    weight: Tensor | None = None,
    *,
    moment_tolerance: float = MOMENT_TOLERANCE,
    tie_weight: float = TIE_WEIGHT,
    plane_width: float = PLANE_WIDTH,
    spread: float = 0.0,
    generator: torch.Generator | None = None,
) -> Frames:
    r"""Returns one canonical right-handed frame for each of :math:`B` packed point sets.

    The frame is a function of the set :math:`\{(z_i, r_i)\}` alone: it turns and shifts with the points and does not
    see their order. Axes are the eigenvectors of
    :math:`I = \sum_i w_i (\lVert y_i \rVert^2 1 - y_i y_i^\top) / \sum_i w_i` about the center, by ascending moment.
    The candidates and their scores :math:`s` (Å), with :math:`y` the coordinates in the candidate frame, are:

    * *moments differ*: the four right-handed sign choices;
      :math:`s = \max_i \lVert y_i \rVert \min(1, |x_i| / p, |y_i| / p)` over the atoms with :math:`x_i, y_i > 0`,
      :math:`p` = :obj:`plane_width`. This is the paper's rule: the farthest atom off the y–z and x–z planes gets
      :math:`x > 0` and :math:`y > 0`.
      On a line, where there is no such atom, :math:`s = \max_i x_i / 2`.
    * *two moments agree*: every atom may span the first axis of the degenerate plane, with both signs of the third
      direction :math:`u`; :math:`s = \rho_i + u_i / 2`, where :math:`\rho_i` is its distance from that direction.
    * *all three agree*: every pair of atoms may span x and the x–y plane;
      :math:`s = \lVert y_i \rVert + \rho_{j}`, with :math:`\rho_j` the distance of the second from the x axis.

    To each score :math:`t \sum_i c_{z_i} g(y_i) / \sum_i c_{z_i}` is added, with :math:`t` = :obj:`tie_weight`,
    :math:`c_z = \sqrt z` and :math:`g` the weighted mean of a few fixed plane waves in generic directions. It settles
    ties between atoms that are equally far, and only exactly equivalent frames are left with equal scores.

    **Margin.** :obj:`margin` is the smallest relative change that can alter the choice: the minimum of
    :math:`|g_{01} - \tau|` and :math:`|g_{12} - \tau|`, where :math:`g_{kl}` is the gap of two neighboring moments
    relative to the largest one and :math:`\tau` = :obj:`moment_tolerance`, and of the lead of the winning score over
    the best score of a candidate *with another point set*, relative to the distance of the farthest atom. Gaps that
    move no atom (one atom, the two equal moments of a line) are left out; a set with no other choice has margin 1.

    Args:
        pos (torch.Tensor): Positions :math:`[T, 3]` in Å of all atoms, packed.
        z (torch.Tensor): Atomic numbers :math:`[T]`.
        ptr (torch.Tensor): First atom of each set, and :math:`T`: :math:`[B + 1]`.
        weight (torch.Tensor, optional): Positive weights :math:`[T]` of the atoms in center and inertia tensor; 1
            by default.
        moment_tolerance (float): Relative gap below which two moments count as equal.
        tie_weight (float): Weight :math:`t` in Å of the generic term.
        plane_width (float): Width :math:`p` in Å over which an atom near a sign plane loses its say.
        spread (float): Where a :obj:`generator` is given: how far (relative, as in the margin) a choice may lie from
            the best one and still be drawn.
        generator (torch.Generator, optional): If given, the frame is drawn evenly among the candidates within
            :obj:`spread` instead of taking the best.

    Returns:
        Frames: in float64 on the device of :obj:`pos`.

    Raises:
        ValueError: If shapes do not match, a position is not finite or beyond 10⁶ Å, a number of :obj:`z` is below 1,
            a weight is not positive, or a set is empty.
    """
    check_points(pos, z, ptr, weight)
    pos, ptr = pos.detach().double(), ptr.to(pos.device)
    weight = torch.ones_like(pos[:, 0]) if weight is None else weight.detach().double()
    settings = (moment_tolerance, tie_weight, plane_width, spread, generator)
    # Chunks of whole molecules keep the memory bounded; a molecule has four candidates as a rule.
    starts, size = [0], ptr.numel() - 1
    if ptr[-1] * 4 > CHUNK:
        marks = torch.arange(0, int(ptr[-1]), CHUNK // 4, device=ptr.device)
        starts = torch.unique(torch.searchsorted(ptr, marks).clamp(max=size)).tolist()
    parts = []
    for a, b in zip(starts, [*starts[1:], size], strict=True):
        if b > a:
            lo, hi = int(ptr[a]), int(ptr[b])
            parts.append(_frames(pos[lo:hi], z[lo:hi], ptr[a:b + 1] - lo, weight[lo:hi], *settings))
    if not parts:
        return Frames(pos.new_zeros(0, 3), pos.new_zeros(0, 3, 3), pos.new_zeros(0))
    return Frames(*(torch.cat(part) for part in zip(*parts, strict=True)))


def check_apart(pos: Tensor, z: Tensor, ptr: Tensor) -> None:
    r"""Refuses molecules in which two atoms coincide, that is, lie nearer than
    :data:`~torch_geometric_inertial.elements.MIN_DISTANCE`. Periodic images are left out of account.

    The atoms of each molecule are sorted along one direction and compared with those next to them, so that the cost
    grows little faster than their number.

    Args:
        pos (torch.Tensor): Positions :math:`[T, 3]` in Å; an atom at a place that is not finite is near no other.
        z (torch.Tensor): Atomic numbers :math:`[T]`, for the message.
        ptr (torch.Tensor): First atom of each molecule, and :math:`T`: :math:`[B + 1]`.

    Raises:
        ValueError: If they do, with the first two such atoms, by their numbers in their molecule.
    """
    pos, ptr = pos.detach().double(), ptr.to(pos.device)
    molecule = molecule_of(ptr)
    along = pos @ pos.new_tensor(_SWEEP)
    order = along.argsort(stable=True)
    order = order[molecule[order].argsort(stable=True)]
    i, step, near = torch.arange(len(order), device=pos.device), 0, []
    while len(i) > 0:
        step += 1
        i = i[i + step < len(order)]
        u, v = order[i], order[i + step]
        beside = (molecule[u] == molecule[v]) & (along[v] - along[u] < MIN_DISTANCE)
        i, u, v = i[beside], u[beside], v[beside]
        close = (pos[u] - pos[v]).norm(dim=1) < MIN_DISTANCE
        near.append(torch.stack([torch.minimum(u[close], v[close]), torch.maximum(u[close], v[close])]))
    pairs = torch.cat(near, 1) if near else order.new_empty(2, 0)
    if pairs.numel() > 0:
        u, v = pairs[:, (pairs[0] * len(order) + pairs[1]).argmin()].tolist()
        first = int(ptr[molecule[u]])
        a, b = (SYMBOLS[int(z[k])] if 0 < int(z[k]) < len(SYMBOLS) else f'z = {int(z[k])}' for k in (u, v))
        raise ValueError(f'two atoms must be at least {MIN_DISTANCE} Å apart '
                         f'(got {float((pos[u] - pos[v]).norm()):.3g} Å between atom {u - first}, {a}, and '
                         f'atom {v - first}, {b})')


def to_frame(pos: Tensor, frames: Frames, ptr: Tensor) -> Tensor:
    r"""Coordinates of :obj:`pos` :math:`[T, 3]` in their frames, :math:`y_i = R^\top (r_i - c)`, in the dtype of
    :obj:`pos`."""
    index = molecule_of(ptr.to(pos.device))
    out = torch.einsum('ni,nij->nj', pos.double() - frames.center.double()[index], frames.axes.double()[index])
    return out.to(pos.dtype)


def from_frame(pos: Tensor, frames: Frames, ptr: Tensor) -> Tensor:
    r"""The inverse of :func:`to_frame`: :math:`r_i = R y_i + c`."""
    index = molecule_of(ptr.to(pos.device))
    out = torch.einsum('ni,nji->nj', pos.double(), frames.axes.double()[index]) + frames.center.double()[index]
    return out.to(pos.dtype)


def random_rotations(num: int, degrees: float, generator: torch.Generator | None = None,
                     device: torch.device | str = 'cpu') -> Tensor:
    r"""Rotations [num, 3, 3] by angles from N(0, degrees²) about random axes; uniform on SO(3) from 180° on."""
    if degrees >= 180:
        q = torch.randn(num, 4, generator=generator, device=device, dtype=torch.float32)
    else:
        angle, axis = (torch.randn(num, n, generator=generator, device=device, dtype=torch.float32) for n in (1, 3))
        angle, axis = angle * torch.pi * degrees / 180, torch.nn.functional.normalize(axis, dim=1)
        q = torch.cat([(angle / 2).cos(), (angle / 2).sin() * axis], dim=1)
    w, x, y, z = torch.nn.functional.normalize(q, dim=1).unbind(1)
    return torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ], dim=1).view(num, 3, 3)


def check_points(pos: Tensor, z: Tensor, ptr: Tensor, weight: Tensor | None = None) -> None:
    r"""Refuses positions that are none, as :func:`inertial_frames` says, whose arguments these are."""
    if pos.dim() != 2 or pos.size(1) != 3 or not pos.is_floating_point():
        raise ValueError(f"'pos' must be a floating point tensor of shape [T, 3] "
                         f'(got {pos.dtype} of shape {list(pos.shape)})')
    if z.is_floating_point() or z.is_complex() or z.dtype == torch.bool:
        raise ValueError(f"'z' must hold whole numbers (got {z.dtype})")
    if z.shape != pos.shape[:1]:
        raise ValueError(f"'z' must hold one atomic number for each of the {pos.size(0)} positions "
                         f'(got shape {list(z.shape)})')
    if ptr.dim() != 1 or ptr.numel() < 1 or int(ptr[0]) != 0 or int(ptr[-1]) != pos.size(0):
        raise ValueError(f"'ptr' must run from 0 to the number of positions, {pos.size(0)} (got {ptr.tolist()[:8]})")
    if bool((ptr < 0).any() or (ptr > pos.size(0)).any() or (ptr.diff() < 0).any()):
        raise ValueError(f"'ptr' must ascend from 0 to the number of positions, {pos.size(0)} (got {ptr.tolist()[:8]})")
    empty = (ptr.diff() < 1).nonzero()
    if empty.numel() > 0:
        raise ValueError(f"a molecule must have at least one atom (molecule {int(empty[0])} has none)")
    bad = (~torch.isfinite(pos).all(1)).nonzero()
    if bad.numel() > 0:
        i = int(bad[0])
        raise ValueError(f"'pos' must be finite (got {pos[i].tolist()} at atom {i}; {bad.size(0)} in all)")
    far = (pos.abs() > MAX_COORDINATE).any(1).nonzero()
    if far.numel() > 0:
        i = int(far[0])
        raise ValueError(f"'pos' must lie within {MAX_COORDINATE:g} Å of the origin "
                         f'(got {pos[i].tolist()} at atom {i}; {far.numel()} in all)')
    odd = (z < 1).nonzero()
    if odd.numel() > 0:
        raise ValueError(f"'z' must be at least 1 (got {int(z[odd[0]])} at atom {int(odd[0])})")
    first = torch.repeat_interleave(ptr[:-1], ptr.diff()).to(pos.device)
    if pos.numel() and (reach := float((pos - pos[first]).abs().max())) > FARTHEST:
        raise ValueError(f"'pos' must be within {FARTHEST:g} Å of the molecule's first atom (got {reach:.3g} Å)")
    if weight is not None and (weight.shape != z.shape or not bool((weight > 0).all())):
        least = f', smallest {float(weight.min()):g}' if weight.numel() > 0 else ''
        raise ValueError(f"'weight' must hold one positive number for each of the {pos.size(0)} atoms "
                         f'(got shape {list(weight.shape)}{least})')


def _frames(pos, z, ptr, weight, moment_tolerance, tie_weight, plane_width, spread, generator) -> Frames:
    size, index = ptr.numel() - 1, molecule_of(ptr)
    total = sum_by(weight, index, size)
    center = sum_by(weight[:, None] * pos, index, size) / total[:, None]
    y = pos - center[index]
    second = sum_by(weight[:, None, None] * y[:, :, None] * y[:, None, :], index, size) / total[:, None, None]
    trace = second.diagonal(dim1=1, dim2=2).sum(1)
    moments, axes = torch.linalg.eigh(trace[:, None, None] * torch.eye(3, dtype=y.dtype, device=y.device) - second)
    axes[:, :, 2] *= torch.linalg.det(axes).sign()[:, None]
    y = torch.einsum('ni,nij->nj', y, axes[index])
    radius = max_by(y.norm(dim=1), index, size)
    gaps = moments.diff(dim=1) / moments[:, 2:].clamp(min=1e-300)
    line = max_by(y[:, 1:].norm(dim=1), index, size) < LINEAR

    # Which moments count as equal. When frames are drawn, a gap near the tolerance counts both ways.
    slack = 0.0 if generator is None else spread
    may = (gaps <= moment_tolerance + slack) & ~line[:, None]
    must = (gaps <= moment_tolerance - slack) & ~line[:, None]
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for kind, (first, last) in enumerate([(False, False), (True, False), (False, True), (True, True)]):
        chosen = (may if first else ~must)[:, 0] & (may if last else ~must)[:, 1]
        if bool(chosen.any()):
            parts += candidates(kind, chosen, y, ptr, index, plane_width, tie_weight + spread * radius)
    cand, turn, score = (torch.cat(part) for part in zip(*parts, strict=True))
    ahead = torch.stack([max_by(y[:, 0], index, size), max_by(-y[:, 0], index, size)], 1)
    score = score + line[cand] * ahead[cand, (turn[:, 0, 0] < 0).long()] / 2  # the anchor of a line lies on x
    waves = descriptors(cand, turn, y, z, ptr)
    score = score + tie_weight * (waves @ waves.new_tensor(_WAVE_WEIGHTS))

    best = max_by(score, cand, size, -torch.inf)
    allowed = score >= best[cand] - spread * radius[cand] if generator is not None else score == best[cand]
    if generator is not None:
        noise = torch.rand(score.shape, generator=generator, dtype=score.dtype, device=generator.device)
        draw = torch.where(allowed, noise.to(score.device), -1.0)
        allowed = draw == max_by(draw, cand, size, -1.0)[cand]
    row = torch.arange(len(cand), device=cand.device)
    winner = row.new_full((size,), len(cand)).scatter_reduce_(0, cand[allowed], row[allowed], 'amin')

    other = (waves - waves[winner][cand]).square().mean(1).sqrt() > _SAME_SET
    lead = torch.where(other, (score[winner][cand] - score).abs() / radius[cand].clamp(min=1e-300), 1.0)
    margin = -max_by(-lead, cand, size, -1.0)
    doubt = (gaps - moment_tolerance).abs()
    doubt[line] = 1.0
    doubt[:, 0] = torch.where(radius < LINEAR, 1.0, doubt[:, 0])
    margin = torch.minimum(margin, doubt.amin(1))
    return Frames(center, axes @ turn[winner], margin)
