r"""Atoms that a molecule must contain, and the poses and orders in which a model may have met them."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.elements import COVALENT_RADII
from torch_geometric_inertial.frames import inertial_frames, random_rotations
from torch_geometric_inertial.nn.placement import BOND_SCALE

FREE_SHIFT = 1.0  #: Å; standard deviation of the centre of a fragment in its molecule's frame, as drawn.
NEAR_DEGREES, NEAR_SHIFT = 15.0, 0.3  #: How far the frame of a nearly whole molecule is from the whole one's.


@dataclass(frozen=True)
class Fragment:
    r"""What a molecule must contain, in the coordinates of the one who asks.

    Args:
        z (Tensor): Atomic numbers [F].
        types (Tensor): The model's types [F].
        pos (Tensor): Positions [F, 3] in Å, float64.
        hydrogens (str): Where the model's order has hydrogens: :obj:`'last'` (all after the heavy atoms),
            :obj:`'between'` (each near the atom that it is bonded to), or :obj:`'anywhere'`.
        num_poses (int): Poses and orders that are drawn, of which the likelihood chooses one.
        whole (bool): Whether only hydrogens are missing, so that the frame of the fragment is near the molecule's.
        ordered (bool): Whether the atoms are given in the model's order, so that no other is tried.
    """
    z: Tensor
    types: Tensor
    pos: Tensor
    hydrogens: str
    num_poses: int
    whole: bool
    ordered: bool = False

    @property
    def num_prefix(self) -> int:
        r"""Atoms that the sequence begins with; the others wait until the model writes their element. Where hydrogens
        come last, they wait for the heavy atoms to be complete; where they stand between, all atoms but the first
        wait for those."""
        if self.hydrogens == 'between':
            return 1
        if self.hydrogens == 'anywhere':
            return self.z.numel()
        heavy = int((self.z > 1).sum())
        return heavy if heavy > 0 else self.z.numel()

    def reorder(self, perm: Tensor) -> Fragment:
        r"""The fragment with its atoms in the order [F] that they shall have."""
        return replace(self, z=self.z[perm], types=self.types[perm], pos=self.pos[perm], ordered=True)


class Poses(NamedTuple):
    r"""Orders and rigid motions of a fragment: atom :obj:`perm[k, i]` is written as number i, at
    :math:`R_k (x - \bar x) + s_k`.

    Attributes:
        perm (Tensor): [K, F].
        rotation (Tensor): [K, 3, 3], float64.
        shift (Tensor): [K, 3], float64.
    """
    perm: Tensor
    rotation: Tensor
    shift: Tensor

    def positions(self, pos: Tensor) -> Tensor:
        r"""[F, 3] to the model's coordinates [K, F, 3], in the order of writing."""
        moved = (pos - pos.mean(dim=0)) @ self.rotation.mT + self.shift.unsqueeze(1)
        return moved.gather(1, self.perm.unsqueeze(-1).expand(-1, -1, 3))

    def select(self, k: int) -> Poses:
        return Poses(*(x[k:k + 1] for x in self))

    def restore(self, pos: Tensor, written: Tensor) -> Tensor:
        r"""The way back of the only pose: [N, 3] from the model's coordinates to those of :obj:`pos`."""
        return (written.double() - self.shift) @ self.rotation[0] + pos.mean(dim=0)


def propose_poses(fragment: Fragment, generator: torch.Generator) -> Poses:
    r"""Draws :obj:`num_poses` orders and poses of a fragment, for the likelihood to choose among.

    Half of the orders are the one in which the atoms are given, the others walks through the bonds from a random
    root, depth first (a hydrogen if there is one where hydrogens stand between, as in SMILES); where hydrogens come
    last, they are put there. An :obj:`ordered` fragment has the given one alone. The poses of a nearly
    whole molecule are its inertial frames, each sign choice as likely as another, turned and shifted a little; of
    those of a part half are
    like that and half uniformly random, with the centre drawn from N(0, 1 Å²) around the origin.
    """
    num, pos = fragment.num_poses, fragment.pos
    bonds = _neighbours(fragment.z, pos)
    perm = []
    for k in range(num):
        as_given = fragment.ordered or k % 2 == 0
        given = torch.arange(pos.size(0)) if as_given else _walk(fragment.z, bonds, fragment.hydrogens, generator)
        perm.append(_hydrogens_last(fragment.z, given, bonds) if fragment.hydrogens == 'last' else given)
    near = torch.rand(num, generator=generator) < (1.0 if fragment.whole else 0.5)
    axes = inertial_frames(pos, fragment.z, torch.tensor([0, pos.size(0)])).axes[0]
    sign = torch.tensor([[1., 1., 1.], [1., -1., -1.], [-1., 1., -1.], [-1., -1., 1.]], dtype=pos.dtype)
    sign = sign[torch.randint(4, (num, ), generator=generator)]
    jitter = random_rotations(num, NEAR_DEGREES, generator).to(pos.dtype)
    free = random_rotations(num, 180.0, generator).to(pos.dtype)
    rotation = torch.where(near.view(-1, 1, 1), jitter @ (axes * sign.unsqueeze(1)).mT, free)
    scale = torch.where(near, NEAR_SHIFT, FREE_SHIFT).unsqueeze(1)
    shift = scale * torch.randn(num, 3, generator=generator)
    return Poses(torch.stack(perm), _orthonormal(rotation), shift.to(pos.dtype))


def _orthonormal(rotation: Tensor) -> Tensor:
    r"""Float32 rotations made exact in float64, so that the way back ends where it began."""
    u, _, v = torch.linalg.svd(rotation)
    return u @ v


def _neighbours(z: Tensor, pos: Tensor) -> list[list[int]]:
    radius = COVALENT_RADII[z].to(pos.dtype)
    bonded = torch.cdist(pos, pos) < BOND_SCALE * (radius.unsqueeze(1) + radius)
    bonded.fill_diagonal_(False)
    return [row.nonzero().flatten().tolist() for row in bonded]


def _walk(z: Tensor, bonds: list[list[int]], hydrogens: str, generator: torch.Generator) -> Tensor:
    r"""A depth-first walk from a random root: heavy atoms in random order, hydrogens right after their atom."""
    chance = torch.rand(z.numel(), generator=generator).tolist()
    is_root = [(number == 1) == (hydrogens == 'between') for number in z.tolist()]
    seen: set[int] = set()
    order = []
    for root in sorted(range(z.numel()), key=lambda i: (not is_root[i], chance[i])):
        stack = [root]
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            order.append(i)
            stack += sorted((j for j in bonds[i] if j not in seen), key=lambda j: (int(z[j]) == 1, chance[j]))
    return torch.tensor(order)


def _hydrogens_last(z: Tensor, order: Tensor, bonds: list[list[int]]) -> Tensor:
    r"""Heavy atoms first, then the hydrogens, grouped by the atom that they are bonded to."""
    place = {atom: i for i, atom in enumerate(order.tolist())}

    def key(atom: int) -> tuple[int, int]:
        if int(z[atom]) > 1:
            return -1, place[atom]
        heavy = [place[j] for j in bonds[atom] if int(z[j]) > 1]
        return min(heavy, default=z.numel()), place[atom]

    return torch.tensor(sorted(order.tolist(), key=key))
