r"""Newton's equation under accelerations that a network gives, in steps that shrink where two particles meet."""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.models.atom_inputs import AtomInputs
from torch_geometric_inertial.ops.segment import segment_sum

FASTEST = 4.0  #: Speeds of the n-body task are below: the longest kick of an equal step, and what a model resolves.
HARDEST = 12.0  #: Longest kick of a step that shrinks: a wrong one would throw a particle out of the data.
CLOSEST = 0.03  #: Distance below which steps do not shrink further.
SLOWEST = 0.1  #: Least of W, as a share of what it follows.


def equal_steps(acceleration: Callable[[AtomInputs], Tensor], atoms: AtomInputs, time: Tensor, count: int) -> Tensor:
    r"""Positions [N, 3] after a time, in steps :math:`h = T / n`: half a drift, a kick, half a drift; of second order
    where accelerations do not depend on the velocity. A kick stays below :data:`FASTEST`."""
    assert atoms.vel is not None
    step = time / count
    pos, vel = atoms.pos, atoms.vel
    for _ in range(count):
        pos = pos + 0.5 * step * vel
        kick = step * acceleration(atoms.moved(pos, vel))
        vel = vel + kick / (1 + kick.square().sum(-1, keepdim=True) / FASTEST ** 2).sqrt()
        pos = pos + 0.5 * step * vel
    return pos


def shrinking_steps(acceleration: Callable[[AtomInputs], Tensor], atoms: AtomInputs, time: Tensor, most: int,
                    share: float) -> Tensor:
    r"""Positions [N, 3] after a time, by the time-transformed leapfrog (Mikkola and Aarseth, Celest. Mech. 84, 2002).

    .. math:: \mathrm dt = \frac{s}{\Omega(r)}, \qquad
              \Omega = \sum_{i < j} (r_{ij}^2 + \varepsilon^2)^{-3/4}

    Drifts take :math:`s / 2W` and kicks :math:`s / \Omega`, where :math:`W` follows :math:`\Omega` by its own equation
    :math:`\dot W = \sum_i v_i \cdot \nabla_i \Omega`, so that the steps are symmetric in time. Two particles that
    attract each other as :math:`1 / r^2` fall together in a time that goes as :math:`r^{3/2}`: a step is the share
    :math:`s` of it. Each molecule has steps of its own, and its last one ends at the time exactly.
    Derivatives do not go through the lengths of the steps.

    Args:
        acceleration: Of each atom [N, 3], from its molecule.
        atoms: The first positions and velocities.
        time: Where to end, a scalar.
        most: Steps that a molecule may take; the last of them takes what is left.
        share: The share :math:`s`.
    """
    assert atoms.vel is not None
    pos, vel = atoms.pos, atoms.vel
    index = torch.arange(pos.size(0), device=pos.device)
    left = time.detach().to(pos.dtype).expand(atoms.batch_size)
    stretch = time / time.detach()  # 1, through which the learned time gets its derivative
    pace = _pace(atoms)[0]
    ended: list[Tensor] = []
    order: list[Tensor] = []
    for k in range(most):
        batch, last = atoms.batch, (share >= left * pace) | (k + 1 == most)
        first = torch.where(last, left / 2, share / 2 / pace)
        pos = pos + stretch * first[batch].unsqueeze(-1) * vel
        atoms = atoms.moved(pos, vel)
        here, slope = _pace(atoms)
        length = torch.where(last, left, share / here)
        kick = stretch * length[batch].unsqueeze(-1) * acceleration(atoms)
        kick = kick * (HARDEST / kick.detach().norm(dim=-1, keepdim=True).clamp(min=1e-9)).clamp(max=1.0)
        rate = segment_sum(((vel + 0.5 * kick).detach() * slope).sum(-1, keepdim=True), atoms.ptr).squeeze(-1)
        pace = torch.maximum(pace + length * rate, SLOWEST * here)
        left = left - first
        second = torch.where(last, left, (share / 2 / pace).minimum(left))
        left = torch.where(last, 0.0, left - second)
        vel = vel + kick
        pos = pos + stretch * second[batch].unsqueeze(-1) * vel
        going = left > 0
        if bool(going.all()):
            continue
        stays = going[batch]
        ended.append(pos[~stays])
        order.append(index[~stays])
        if not bool(going.any()):
            break
        atoms, index, pos, vel, left, pace = (atoms.subset(going), index[stays], pos[stays], vel[stays], left[going],
                                              pace[going])
    return torch.cat(ended)[torch.cat(order).argsort()]


@torch.no_grad()
def _pace(atoms: AtomInputs) -> tuple[Tensor, Tensor]:
    r""":math:`\Omega` of each molecule [B] and its gradient [N, 3]."""
    soft = atoms.pairs.distance.square() + CLOSEST ** 2
    near = soft.pow(-0.75)
    slope = 1.5 * atoms.pairs.distance * near / soft
    pace = 0.5 * segment_sum(atoms.pairs.scalar_sum(near.unsqueeze(-1)), atoms.ptr).squeeze(-1)
    return pace, atoms.pairs.vector_sum(slope.unsqueeze(-1)).squeeze(-1)
