r"""The poses and orders in which a model may have met the atoms of a scaffold, and the choice among them."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.elements import COVALENT_RADII
from torch_geometric_inertial.frames import inertial_frames, random_rotations
from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.draws import RandomNumbers, draw
from torch_geometric_inertial.generation.scaffold import Scaffold

BOND_SCALE = 1.2  #: Two atoms count as bonded within this multiple of the sum of their covalent radii.
FREE_SHIFT = 1.0  #: Å; standard deviation of the center of a scaffold in its molecule's frame, as drawn.
NEAR_DEGREES, NEAR_SHIFT = 15.0, 0.3  #: How far the frame of a nearly whole molecule is from the whole one's.
PREFIX_TOKENS = 1 << 14  #: Tokens of candidates that are read at a time.


class Poses(NamedTuple):
    r"""Orders and rigid motions of a scaffold: atom :obj:`perm[k, i]` is written as number i, at
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


def propose_poses(scaffold: Scaffold, generator: torch.Generator) -> Poses:
    r"""Draws :obj:`num_poses` orders and poses of a scaffold, for the likelihood to choose among.

    Half of the orders are the one in which the atoms are given, the others walks through the bonds from a random
    root, depth first (a hydrogen if there is one where hydrogens stand between, as in SMILES); where hydrogens come
    last, they are put there. An :obj:`ordered` scaffold has the given one alone. The poses of a nearly whole molecule
    are its inertial frames, each sign choice as likely as another, turned and shifted a little; of those of a part half
    are like that and half uniformly random, with the center drawn from N(0, 1 Å²) around the origin.
    """
    num, pos = scaffold.num_poses, scaffold.pos
    bonds = _bonded(scaffold.z, pos)
    perm = []
    for k in range(num):
        as_given = scaffold.ordered or k % 2 == 0
        given = torch.arange(pos.size(0)) if as_given else _walk(scaffold.z, bonds, scaffold.hydrogens, generator)
        perm.append(_hydrogens_last(scaffold.z, given, bonds) if scaffold.hydrogens == 'last' else given)
    near = torch.rand(num, generator=generator, dtype=torch.float32) < (1.0 if scaffold.whole else 0.5)
    axes = inertial_frames(pos, scaffold.z, torch.tensor([0, pos.size(0)])).axes[0]
    sign = torch.tensor([[1., 1., 1.], [1., -1., -1.], [-1., 1., -1.], [-1., -1., 1.]], dtype=pos.dtype)
    sign = sign[torch.randint(4, (num, ), generator=generator)]
    jitter = random_rotations(num, NEAR_DEGREES, generator).to(pos.dtype)
    free = random_rotations(num, 180.0, generator).to(pos.dtype)
    rotation = torch.where(near.view(-1, 1, 1), jitter @ (axes * sign.unsqueeze(1)).mT, free)
    scale = torch.where(near, NEAR_SHIFT, FREE_SHIFT).unsqueeze(1)
    shift = scale * torch.randn(num, 3, generator=generator, dtype=torch.float32)
    return Poses(torch.stack(perm), _orthonormal(rotation), shift.to(pos.dtype))


def choose_poses(model: AtomModel, scaffolds: list[Scaffold | None], conditions: dict[str, Tensor] | None,
                 numbers: list[RandomNumbers]) -> list[Poses | None]:
    r"""One pose for each scaffold, drawn by the likelihood that the model gives to the scaffold in it.

    Args:
        model (AtomModel): The model.
        scaffolds (list): Of K molecules; some may have none.
        conditions (dict, optional): Theirs, by name, each [K, ...].
        numbers (list): Theirs; the generators are used up from here on.
    """
    chosen: list[Poses | None] = [None] * len(scaffolds)
    given = [(i, scaffold) for i, scaffold in enumerate(scaffolds) if scaffold is not None]
    while given:
        part: list[tuple[int, Scaffold, Poses]] = []
        total = 0
        while given and total < PREFIX_TOKENS:
            i, scaffold = given.pop(0)
            part.append((i, scaffold, propose_poses(scaffold, numbers[i].generator)))
            total += scaffold.num_poses * scaffold.z.numel()
        scores = _scores(model, part, conditions, numbers).split([scaffold.num_poses for _, scaffold, _ in part])
        for (i, _, poses), score in zip(part, scores, strict=True):
            uniform = torch.rand(1, generator=numbers[i].generator, dtype=torch.float32)
            chosen[i] = poses.select(int(draw(score.unsqueeze(0), uniform)))
    return chosen


def _scores(model: AtomModel, part: list[tuple[int, Scaffold, Poses]], conditions: dict[str, Tensor] | None,
            numbers: list[RandomNumbers]) -> Tensor:
    r"""The log-likelihood of each candidate, one molecule after the other, on the CPU."""
    device = model.radii.device
    sizes = torch.tensor([scaffold.z.numel() for _, scaffold, _ in part for _ in range(scaffold.num_poses)])
    row = torch.tensor([i for i, scaffold, _ in part for _ in range(scaffold.num_poses)]).to(device)
    noise = torch.cat([
        torch.randn(3, generator=numbers[i].generator, dtype=torch.float32).expand(poses.perm.numel(), 3)
        for i, _, poses in part])
    data = Data(z=torch.cat([scaffold.z[poses.perm].flatten() for _, scaffold, poses in part]),
                pos=torch.cat([poses.positions(scaffold.pos).flatten(0, 1) for _, scaffold, poses in part]).float(),
                ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])).to(device)
    for name, x in (conditions or {}).items():
        data[name] = x[row]
    return model.prefix_log_prob(data, noise.to(device)).cpu()


def _orthonormal(rotation: Tensor) -> Tensor:
    r"""Float32 rotations made exact in float64, so that the way back ends where it began."""
    u, _, v = torch.linalg.svd(rotation)
    return u @ v


def _bonded(z: Tensor, pos: Tensor) -> list[list[int]]:
    radius = COVALENT_RADII[z].to(pos.dtype)
    bonded = torch.cdist(pos, pos) < BOND_SCALE * (radius.unsqueeze(1) + radius)
    bonded.fill_diagonal_(False)
    return [row.nonzero().flatten().tolist() for row in bonded]


def _walk(z: Tensor, bonds: list[list[int]], hydrogens: str, generator: torch.Generator) -> Tensor:
    r"""A depth-first walk from a random root: heavy atoms in random order, hydrogens right after their atom."""
    uniform = torch.rand(z.numel(), generator=generator, dtype=torch.float32).tolist()
    is_root = [(number == 1) == (hydrogens == 'between') for number in z.tolist()]
    seen: set[int] = set()
    order = []
    for root in sorted(range(z.numel()), key=lambda i: (not is_root[i], uniform[i])):
        stack = [root]
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            order.append(i)
            stack += sorted((j for j in bonds[i] if j not in seen), key=lambda j: (int(z[j]) == 1, uniform[j]))
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
