r"""Named molecules with much symmetry, rigid motions, and the laws that tests hold them to."""
from __future__ import annotations

import math
from collections.abc import Callable, Collection
from itertools import permutations, product

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.elements import ATOMIC_NUMBERS
from torch_geometric_inertial.fields import FIELD_LEVELS
from torch_geometric_inertial.permute import permute_atoms

Points = list[tuple[str, tuple[float, float, float]]]

_PHI = (1 + math.sqrt(5)) / 2
_TETRAHEDRON = [(1, 1, 1), (1, -1, -1), (-1, 1, -1), (-1, -1, 1)]


def random_rotation(generator: torch.Generator | int = 0) -> Tensor:
    r"""A rotation :math:`[3, 3]` in float64, even over :math:`SO(3)`."""
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    q, r = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal().sign()
    return q * torch.linalg.det(q)


def random_motion(
    data: Data, generator: torch.Generator | int = 0, shift: float = 10.0, vectors: Collection[str] = (),
) -> Data:
    r"""A copy of a molecule, turned, shifted by about :obj:`shift` Å and relabeled.

    Fields with one row per atom and edges follow the atoms (:func:`~torch_geometric_inertial.permute.permute_atoms`);
    :obj:`pos` and the fields named in :obj:`vectors` (forces, velocities, a dipole: 3 numbers in the last dimension)
    turn, and :obj:`pos` alone is shifted.

    Raises:
        ValueError: If a field of :obj:`vectors` is missing, or has not 3 numbers in its last dimension.
    """
    return _motion(data, generator, shift, vectors)[0]


def _motion(data: Data, generator: torch.Generator | int, shift: float, vectors: Collection[str],
            ) -> tuple[Data, Tensor, Tensor]:
    r"""The molecule after a random motion, its rotation [3, 3], and which atom came to each place [N]."""
    for name in vectors:
        value = data.get(name)
        if not torch.is_tensor(value) or value.dim() == 0 or value.size(-1) != 3:
            got = list(value.shape) if torch.is_tensor(value) else value
            raise ValueError(f"'vectors' must name tensors with 3 numbers in the last dimension (got {name!r}: {got})")
    if isinstance(generator, int):
        generator = torch.Generator().manual_seed(generator)
    turn = random_rotation(generator).to(data.pos)
    away = shift * torch.randn(3, generator=generator, dtype=torch.float64).to(data.pos)
    label = torch.randperm(len(data.z), generator=generator).to(data.pos.device)
    own = {name: 'node' for name in vectors if name not in FIELD_LEVELS and len(data[name]) == len(label)}
    out = permute_atoms(data.clone(), label, label.new_tensor([0, len(label)]), own, warn=False)
    out.pos = out.pos @ turn.T + away
    for name in vectors:
        out[name] = out[name] @ turn.T.to(out[name])
    return out, turn, label


def assert_invariant(
    function: Callable[[Data], Data],
    data: Data,
    trials: int = 4,
    seed: int = 0,
    atol: float = 1e-3,
) -> None:
    r"""Asserts that a canonical form does not depend on pose and labels: for :obj:`trials` random motions,
    :obj:`function` returns the same sequence of elements, and coordinates that differ by :obj:`atol` Å at most.

    Raises:
        AssertionError: If it does, with the molecule and the seed of the motion.
    """
    first = function(data.clone())
    for k in range(trials):
        other = function(random_motion(data, seed + k))
        if first.z.tolist() != other.z.tolist():
            raise AssertionError(f'elements differ under motion {seed + k}: {first.z.tolist()}, {other.z.tolist()}')
        gap = float((first.pos - other.pos).abs().max())
        if not gap <= atol:
            raise AssertionError(f'coordinates differ by {gap:.3g} Å > {atol:g} Å under motion {seed + k} ({data})')


def assert_equivariant(
    function: Callable[[Data], Tensor],
    data: Data,
    trials: int = 4,
    seed: int = 0,
    atol: float = 1e-6,
    vectors: Collection[str] = (),
) -> None:
    r"""Asserts that vectors per atom, such as forces, turn and relabel with the molecule: for :obj:`trials` random
    motions :math:`f(R x + t)_i = R f(x)_{\pi(i)}` within :obj:`atol`.

    Args:
        function (callable): Molecule to vectors [N, 3] or [N, C, 3].
        data (Data): A molecule, :obj:`z` [N] and :obj:`pos` [N, 3] in Å.
        trials (int): Motions.
        seed (int): Of the first motion; the next ones follow.
        atol (float): In units of the result.
        vectors: Fields of the molecule that turn with it (:func:`random_motion`).

    Raises:
        AssertionError: If they do not, with the molecule and the seed of the motion, or if the result is not finite.
        ValueError: If the result is not one row of vectors per atom.
    """
    first = function(data.clone())
    if first.dim() < 2 or first.size(0) != len(data.z) or first.size(-1) != 3:
        raise ValueError(f"'function' must give vectors [{len(data.z)}, …, 3] (got {list(first.shape)})")
    for k in range(trials):
        moved, turn, label = _motion(data, seed + k, 10.0, vectors)
        gap = float((function(moved) - first[label] @ turn.T.to(first)).abs().max())
        if not gap <= atol:
            raise AssertionError(f'vectors differ by {gap:.3g} > {atol:g} under motion {seed + k} ({data})')


def degenerate_molecules() -> dict[str, Data]:
    r"""Molecules on which a careless canonical frame fails, from analytic coordinates (float64, Å): atoms, lines,
    planes, spherical and symmetric tops, atoms equally far, and both hands of a chiral molecule."""
    return {name: _data(points) for name, points in _shapes().items()}


def _data(points: Points) -> Data:
    z = torch.tensor([ATOMIC_NUMBERS[symbol] for symbol, _ in points])
    return Data(z=z, pos=torch.tensor([p for _, p in points], dtype=torch.float64))


def _ring(symbol: str, count: int, radius: float, height: float = 0.0, phase: float = 0.0) -> Points:
    turns = [phase + 2 * math.pi * k / count for k in range(count)]
    return [(symbol, (radius * math.cos(t), radius * math.sin(t), height)) for t in turns]


def _line(text: str, *x: float) -> Points:
    return [(symbol, (value, 0.0, 0.0)) for symbol, value in zip(text.split(), x, strict=True)]


def _scaled(symbol: str, corners: list, length: float) -> Points:
    r"""Corners along their own directions, at a distance from the origin."""
    return [(symbol, (length * x / r, length * y / r, length * w / r))
            for x, y, w in corners for r in [math.hypot(x, y, w)]]


def _methyls(corners: list, length: float, arm: float = 1.09) -> Points:
    r"""Three hydrogens on each of the four carbons of a tetrahedron, staggered: they keep its full symmetry."""
    out: Points = []
    for corner in corners:
        a = torch.tensor(corner, dtype=torch.float64) / math.sqrt(3)
        for other in corners:
            if other != corner:  # the hydrogen points away from the other carbon
                side = torch.tensor(other, dtype=torch.float64) / math.sqrt(3)
                side = side - (side @ a) * a
                x, y, w = (length * a + arm * (a / 3 - math.sqrt(8) / 3 * side / side.norm())).tolist()
                out.append(('H', (x, y, w)))
    return out


def _fullerene() -> Points:
    r"""The truncated icosahedron: even permutations of three triples, with all signs."""
    triples = [(0.0, 1.0, 3 * _PHI), (1.0, 2 + _PHI, 2 * _PHI), (_PHI, 2.0, 2 * _PHI + 1)]
    corners = set()
    for a, b, c in triples:
        for even in ((a, b, c), (b, c, a), (c, a, b)):
            corners |= {tuple(s * v + 0.0 for s, v in zip(signs, even, strict=True))
                        for signs in product((1, -1), repeat=3)}
    return _scaled('C', sorted(corners), 3.55)


def _shapes() -> dict[str, Points]:
    cube = list(product((1, -1), repeat=3))
    tetra = _TETRAHEDRON
    octahedron = sorted({p for s in (1, -1) for p in permutations((s, 0, 0))})
    adamantane: Points = [
        *_scaled('C', tetra, 1.54), *_scaled('H', tetra, 2.63), *_scaled('C', octahedron, 1.78),
    ]
    for corner in octahedron:  # two hydrogens on each CH2, across the plane of its two CH neighbors
        k = next(i for i in range(3) if corner[i] != 0)
        for s in (1, -1):
            at = [2.41 * v for v in corner]
            at[(k + 1) % 3], at[(k + 2) % 3] = 0.62 * s, -0.62 * s * corner[k]
            adamantane.append(('H', (at[0], at[1], at[2])))
    puckered: Points = []
    for k in range(4):  # D2d ring: carbons up and down, each with one axial and one equatorial hydrogen
        t, s = math.pi / 2 * k, (-1) ** k
        for symbol, r, h in (('C', 1.09, 0.12), ('H', 1.98, -0.3), ('H', 1.42, 1.13)):
            puckered.append((symbol, (r * math.cos(t), r * math.sin(t), s * h)))
    allene = _line('C C C', -1.31, 0.0, 1.31)
    for side in (0.93, -0.93):
        allene += [('H', (-1.87, side, 0.0)), ('H', (1.87, 0.0, side))]
    ether: Points = [('O', (0.0, 0.0, 0.59)), ('C', (1.165, 0.0, -0.195)), ('C', (-1.165, 0.0, -0.195))]
    for s in (1, -1):
        ether += [('H', (2.02 * s, 0.0, 0.48)), ('H', (1.21 * s, 0.89, -0.84)), ('H', (1.21 * s, -0.89, -0.84))]
    furan: Points = [
        ('O', (0.0, 1.163, 0.0)),
        *[('C', (s * 1.095, 0.348, 0.0)) for s in (1, -1)], *[('C', (s * 0.713, -0.962, 0.0)) for s in (1, -1)],
        *[('H', (s * 2.049, 0.851, 0.0)) for s in (1, -1)], *[('H', (s * 1.373, -1.818, 0.0)) for s in (1, -1)],
    ]
    rod: Points = [('S', (0.0, 0.0, 0.0)), ('F', (0.0, 0.0, -1.58)), *_ring('F', 4, 1.58)]  # its far end is on the axis
    rod += [('C', (0.0, 0.0, 1.73 + 2.58 * k + s)) for k in range(5) for s in (0.0, 1.21)] + [('H', (0.0, 0.0, 14.33))]
    ends = [('H', 1.09), ('F', 1.36), ('Cl', 1.76), ('Br', 1.94)]
    hand: Points = [('C', (0.0, 0.0, 0.0))]
    for (symbol, r), corner in zip(ends, tetra, strict=True):
        hand += _scaled(symbol, [corner], r)
    return {
        'H': [('H', (0.3, -0.2, 0.7))],
        'H2': _line('H H', -0.37, 0.37),
        'H2O': [('O', (0.0, 0.0, 0.0)), ('H', (0.757, 0.586, 0.0)), ('H', (-0.757, 0.586, 0.0))],
        'CO2': _line('O C O', -1.16, 0.0, 1.16),
        'C2H2': _line('H C C H', -1.66, -0.6, 0.6, 1.66),
        'HCN': _line('H C N', -1.07, 0.0, 1.15),
        'NH3': [('N', (0.0, 0.0, 0.11)), *_ring('H', 3, 0.94, -0.27)],
        'CH4': [('C', (0.0, 0.0, 0.0)), *_scaled('H', tetra, 1.09)],
        'CF4': [('C', (0.0, 0.0, 0.0)), *_scaled('F', tetra, 1.32)],
        'SF6': [('S', (0.0, 0.0, 0.0)), *_scaled('F', octahedron, 1.56)],
        'C6H6': _ring('C', 6, 1.393) + _ring('H', 6, 2.477),
        'cubane': _scaled('C', cube, 1.36) + _scaled('H', cube, 2.45),
        'adamantane': adamantane,
        'C60': _fullerene(),
        'allene': allene,
        'ethane': [('C', (0.0, 0.0, 0.765)), ('C', (0.0, 0.0, -0.765)),
                   *_ring('H', 3, 1.02, 1.16), *_ring('H', 3, 1.02, -1.16, math.pi / 3)],
        'propyne': [('C', (0.0, 0.0, 1.46)), ('C', (0.0, 0.0, 0.0)), ('C', (0.0, 0.0, -1.21)),
                    ('H', (0.0, 0.0, -2.27)), *_ring('H', 3, 1.03, 1.85)],
        'SF5-(CC)5-H': rod,
        'furan': furan,
        'dimethyl ether': ether,
        'neopentane': [('C', (0.0, 0.0, 0.0)), *_scaled('C', tetra, 1.53), *_methyls(tetra, 1.53)],
        'cyclobutane': puckered,
        'ferrocene D5d': [('Fe', (0.0, 0.0, 0.0)),
                          *_ring('C', 5, 1.21, 1.65), *_ring('C', 5, 1.21, -1.65, math.pi / 5),
                          *_ring('H', 5, 2.29, 1.63), *_ring('H', 5, 2.29, -1.63, math.pi / 5)],
        'CHFClBr R': hand,
        'CHFClBr S': [(symbol, (x, y, -w)) for symbol, (x, y, w) in hand],
        'trimethylamine': _amine(),
    }


def _amine() -> Points:
    r"""C3v with six hydrogens in mirror pairs: atoms equally far that no rotation maps to each other."""
    out: Points = [('N', (0.0, 0.0, 0.35))]
    for k in range(3):
        t = 2 * math.pi * k / 3
        for symbol, r, side, h in (('C', 1.38, 0.0, 0.0), ('H', 1.38, 0.0, -1.09),
                                   ('H', 1.9, 0.88, 0.36), ('H', 1.9, -0.88, 0.36)):
            x, y = r * math.cos(t) - side * math.sin(t), r * math.sin(t) + side * math.cos(t)
            out.append((symbol, (x, y, h)))
    return out
