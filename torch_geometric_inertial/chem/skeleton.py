r"""What the places of the heavy atoms say by themselves: bonded pairs and their lengths, rings, angles, torsions."""
import math
from typing import NamedTuple

import torch

from torch_geometric_inertial.chem.bonds import distance_bonds

Vector = tuple[float, float, float]


class Skeleton(NamedTuple):
    r"""The heavy atoms of a molecule and what their geometry says.

    * ``atom``: their numbers in the molecule.
    * ``z``: atomic numbers.
    * ``hydrogens``: how many hydrogens of the molecule each one bears.
    * ``bonds``: (u, v, length in Å, ring), u < v, numbers of heavy atoms; ``ring`` is the size of the smallest ring
      that the bond is in, 3 to 6, else 0.
    * ``degree``: how many heavy neighbors each one has.
    * ``shape``: of atoms with two neighbors the angle (degrees), with three the distance (Å) from the plane of their
      neighbors at unit distance, else :obj:`None`; and the smallest ring size of these angles (0: none).
    * ``twist``: of each bond, how far (degrees, 0 to 90) the torsion that is farthest from planar is from it, or
      :obj:`None` if an end has no other neighbor.
    * ``bearers``: (hydrogen, its neighbor), numbers of the molecule's atoms.
    """
    atom: list[int]
    z: list[int]
    hydrogens: list[int]
    bonds: list[tuple[int, int, float, int]]
    degree: list[int]
    shape: list[tuple[float | None, int]]
    twist: list[float | None]
    bearers: list[tuple[int, int]]


def skeleton_of(z: torch.Tensor, pos: torch.Tensor) -> Skeleton:
    r"""Reads the geometry of one molecule's heavy atoms."""
    numbers, place = z.tolist(), pos.tolist()
    ends = distance_bonds(pos, z, torch.tensor([0, len(numbers)])).t().tolist()
    atom = [i for i, number in enumerate(numbers) if number > 1]
    index = {i: n for n, i in enumerate(atom)}
    pairs = [(index[u], index[v]) for u, v in ends if numbers[u] > 1 and numbers[v] > 1]
    bearers = _bearers(numbers, place, ends)
    hydrogens = [0] * len(atom)
    for _, v in bearers:
        if v in index:
            hydrogens[index[v]] += 1
    near: list[list[int]] = [[] for _ in atom]
    for u, v in pairs:
        near[u].append(v)
        near[v].append(u)
    x = [place[i] for i in atom]
    ring_of: dict[tuple[int, int], int] = {}
    shape: list[tuple[float | None, int]] = []
    for i, around in enumerate(near):
        smallest = 0
        for n, a in enumerate(around):
            for b in around[:n]:
                size = _ring(near, i, a, b)
                if size:
                    smallest = min(smallest or size, size)
                    for j in (a, b):
                        key = (i, j) if i < j else (j, i)
                        ring_of[key] = min(ring_of.get(key, size), size)
        if len(around) == 2:
            a, b = (_unit(x[j], x[i]) for j in around)
            shape.append((math.degrees(math.acos(max(-1.0, min(1.0, _dot(a, b))))), smallest))
        elif len(around) == 3:
            shape.append((_pyramid(*(_unit(x[j], x[i]) for j in around)), smallest))
        else:
            shape.append((None, smallest))
    bonds = [(u, v, math.dist(x[u], x[v]), ring_of.get((u, v), 0)) for u, v in pairs]
    twist = [_twist(x, near, u, v) for u, v in pairs]
    return Skeleton(atom, [numbers[i] for i in atom], hydrogens, bonds, [len(around) for around in near], shape, twist,
                    bearers)


def _bearers(numbers: list[int], place: list[list[float]], ends: list[list[int]]) -> list[tuple[int, int]]:
    r"""Each hydrogen with its nearest heavy neighbor, or with its nearest hydrogen, once, where it has none."""
    best: dict[int, tuple[bool, float, int]] = {}
    for u, v in ends:
        for i, j in ((u, v), (v, u)):
            if numbers[i] == 1:
                candidate = (numbers[j] == 1, math.dist(place[i], place[j]), j)
                best[i] = min(best.get(i, candidate), candidate)
    return [(i, j) for i, (is_hydrogen, _, j) in sorted(best.items())
            if not is_hydrogen or (i < j and best[j][2] == i)]


def _ring(near: list[list[int]], center: int, a: int, b: int) -> int:
    r"""The size of the smallest ring, 3 to 6, through a–center–b, or 0."""
    if b in near[a]:
        return 3
    front, seen = {a}, {a, center}
    for size in (4, 5, 6):
        front = {k for j in front for k in near[j]} - seen
        seen |= front
        if any(b in near[j] for j in front):
            return size
    return 0


def _sub(a, b):
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


def _dot(a, b) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def _cross(a, b):
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


def _unit(a, origin):
    v = _sub(a, origin)
    norm = math.sqrt(_dot(v, v))
    return v[0] / norm, v[1] / norm, v[2] / norm


def _pyramid(a, b, c) -> float:
    r"""How far the origin lies from the plane of three unit vectors."""
    normal = _cross(_sub(b, a), _sub(c, a))
    norm = math.sqrt(_dot(normal, normal))
    return abs(_dot(normal, a)) / norm if norm > 1e-6 else 0.0


def _twist(x, near, u: int, v: int) -> float | None:
    worst = None
    axis = _sub(x[v], x[u])
    right = [n for n in (_cross(axis, _sub(x[b], x[v])) for b in near[v] if b != u) if _dot(n, n) > 0.1]
    for a in near[u]:
        if a == v:
            continue
        left = _cross(axis, _sub(x[a], x[u]))
        if _dot(left, left) < 0.1:
            continue
        for n in right:
            cosine = abs(_dot(left, n)) / math.sqrt(_dot(left, left) * _dot(n, n))
            angle = math.degrees(math.acos(min(1.0, cosine)))
            worst = angle if worst is None else max(worst, angle)
    return worst
