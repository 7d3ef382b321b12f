r"""The candidates among which a canonical frame is chosen, and the functions of a point set that tell them apart; see
:mod:`torch_geometric_inertial.frames`."""
from __future__ import annotations

import torch
from torch import Tensor

CHUNK = 1 << 17  #: Rows (candidate, atom) that are in memory at a time.
BLOCK = 1 << 19  #: The same where one molecule alone has more; about 120 MiB.
LINEAR = 1e-5  #: Å; a point set this thin is a line.
UNTIED, OBLATE, PROLATE, SPHERICAL = range(4)  #: Which principal moments agree: none, the first two, the last two, all.
SIGNS = ((1., 1., 1.), (1., -1., -1.), (-1., 1., -1.), (-1., -1., 1.))


def molecule_of(ptr: Tensor) -> Tensor:
    r"""The molecule of each atom."""
    return torch.repeat_interleave(torch.arange(ptr.numel() - 1, device=ptr.device), ptr.diff())


def sum_by(values: Tensor, index: Tensor, size: int) -> Tensor:
    return values.new_zeros(size, *values.shape[1:]).index_add_(0, index, values)


def max_by(values: Tensor, index: Tensor, size: int, lowest: float = 0.0) -> Tensor:
    return values.new_full((size,), lowest).scatter_reduce_(0, index, values, 'amax')


def candidates(kind, chosen, y, ptr, index, plane_width, reach):
    r"""Yields (molecule [C], turn [C, 3, 3], score [C]) for the chosen molecules: turns from the principal axes."""
    size = ptr.numel() - 1
    if kind == UNTIED:
        signs = y.new_tensor(SIGNS)
        ramp = (y[:, :2].abs().amin(1) / plane_width).clamp(max=1.0)
        vote = (y[:, 0] < 0).long() * 2 + (y[:, 1] < 0).long()
        score = max_by(y.norm(dim=1) * ramp, index * 4 + vote, size * 4).view(size, 4)[chosen]
        molecule = chosen.nonzero().view(-1).repeat_interleave(4)
        yield molecule, torch.diag_embed(signs).repeat(len(score), 1, 1), score.view(-1)
    elif kind in (OBLATE, PROLATE):
        axis = 2 if kind == OBLATE else 0
        a, b = (0, 1) if kind == OBLATE else (1, 2)  # (a, b, axis) is right-handed
        rho = y[:, [a, b]].norm(dim=1)
        bound = rho + y[:, axis].abs() / 2
        bound = torch.where(rho >= LINEAR, bound, -torch.inf)  # an atom on the axis tells no direction
        keep = chosen[index] & (bound >= (max_by(bound, index, size) - 2 * reach)[index])
        i = keep.nonzero().view(-1)
        for sign in (1.0, -1.0):
            p, w = y.new_zeros(len(i), 3), y.new_zeros(len(i), 3)
            p[:, [a, b]] = y[i][:, [a, b]] / rho[i, None]
            w[:, axis] = sign
            third = torch.linalg.cross(w, p)
            columns = [p, third, w] if kind == OBLATE else [w, p, third]
            yield index[i], torch.stack(columns, -1), rho[i] + sign * y[i, axis] / 2
    else:
        for m in chosen.nonzero().view(-1).tolist():
            atoms = y[int(ptr[m]):int(ptr[m + 1])]
            r = atoms.norm(dim=1)
            far = r > 0.5 * r.max()
            x, height = atoms[far] / r[far, None], r[far]

            def off_axis(rows, x=x, atoms=atoms):
                return atoms[None] - x[rows, None] * (x[rows] @ atoms.T)[:, :, None]  # [F, N, 3]

            blocks = torch.arange(len(x), device=y.device).split(max(1, CHUNK // len(atoms)))
            highest = torch.stack([(height[rows, None] + off_axis(rows).norm(dim=2)).max() for rows in blocks]).max()
            for rows in blocks:
                rest = off_axis(rows)
                rho = rest.norm(dim=2)
                score = height[rows, None] + rho
                f, j = ((score >= highest - 2 * reach[m]) & (rho > LINEAR)).nonzero(as_tuple=True)
                second = rest[f, j] / rho[f, j, None]
                first = x[rows][f]
                turn = torch.stack([first, second, torch.linalg.cross(first, second)], -1)
                yield ptr.new_full((len(f),), m), turn, score[f, j]


def descriptors(cand: Tensor, turn: Tensor, y: Tensor, z: Tensor, ptr: Tensor) -> Tensor:
    r"""Plane-wave averages :math:`[C, 6]` of the turned sets, :math:`\sum_i c_i \sin(k \cdot y_i + \phi) / \sum_i c_i`.

    The wave vectors (rad/Å) have no rational relation and lie on no symmetry element of the axes.
    """
    wave = y.new_tensor([
        [0.911, 0.337, 0.588], [-0.419, 0.773, 0.671], [0.523, -0.617, 0.947],
        [1.129, 0.743, -0.277], [0.233, 1.237, 0.461], [-0.857, 0.191, 1.319],
    ])
    phase = y.new_tensor([0.37, 1.91, 0.83, 2.71, 4.13, 5.23])
    scale = z.to(y).abs().sqrt()
    total = sum_by(scale, molecule_of(ptr), ptr.numel() - 1)
    # Blocks of candidates: a shell of N atoms has of the order of N^2, and each turns N atoms.
    ends = ptr.diff()[cand].cumsum(0)
    marks = torch.arange(1, 1 + int(ends[-1]) // BLOCK, device=y.device) * BLOCK
    cuts = torch.unique(torch.searchsorted(ends, marks).clamp(min=1, max=len(cand))).tolist()
    parts = [_turned_waves(cand[a:b], turn[a:b], y, scale, ptr, wave, phase)
             for a, b in zip([0, *cuts], [*cuts, len(cand)], strict=True) if b > a]
    return torch.cat(parts) / total[cand, None]


def _turned_waves(cand, turn, y, scale, ptr, wave, phase):
    count = ptr.diff()[cand]
    row = torch.repeat_interleave(torch.arange(len(cand), device=cand.device), count)
    start = count.cumsum(0) - count
    atom = torch.arange(len(row), device=row.device) - start[row] + ptr[cand][row]
    turned = torch.einsum('ni,nij->nj', y[atom], turn[row])
    value = torch.addmm(phase, turned, wave.T).sin_()
    return sum_by(value * scale[atom, None], row, len(cand))
