r"""How likely the states of heavy atoms and the orders of their bonds are, given what the geometry says.

``bond_statistics.json`` has frequencies of states, means and spreads of bond lengths and of the shapes at atoms, and
histograms of the torsions, from QM9's training molecules and drug molecules of known bonds. Each is kept for the very
states of the atoms and for coarser classes, to which a search goes where the very states were too rare.
"""
import json
import math
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple

from torch_geometric_inertial.elements import ATOMIC_NUMBERS, COVALENT_RADII

_VALENCES: dict[str, dict[int, tuple[int, ...]]] = {
    'B': {0: (3, ), -1: (4, )},
    'C': {0: (4, ), -1: (3, ), 1: (3, )},
    'N': {0: (3, ), 1: (4, ), -1: (2, )},
    'O': {0: (2, ), -1: (1, ), 1: (3, )},
    'F': {0: (1, ), -1: (0, )},
    'Si': {0: (4, )},
    'P': {0: (3, 5), 1: (4, )},
    'S': {0: (2, 4, 6), 1: (3, ), -1: (1, )},
    'Cl': {0: (1, ), -1: (0, )},
    'Ge': {0: (4, )},
    'As': {0: (3, 5), 1: (4, )},
    'Se': {0: (2, 4, 6), 1: (3, ), -1: (1, )},
    'Br': {0: (1, ), -1: (0, )},
    'Sn': {0: (4, )},
    'Te': {0: (2, 4, 6), 1: (3, ), -1: (1, )},
    'I': {0: (1, 3, 5), -1: (0, ), 1: (2, )},
    'Li': {1: (0, )}, 'Na': {1: (0, )}, 'K': {1: (0, )}, 'Mg': {2: (0, )}, 'Ca': {2: (0, )}, 'Zn': {2: (0, )},
}
#: Atomic number -> formal charge -> valences. Metals are ions without bonds.
VALENCES = {ATOMIC_NUMBERS[symbol]: charges for symbol, charges in _VALENCES.items()}

#: Upper ends (degrees) of the classes of a bond's torsion.
TWISTS = (4.0, 12.0, 25.0, 45.0, 65.0, 90.0)

Key = tuple[int, ...]


class State(NamedTuple):
    r"""An atom: atomic number, heavy neighbors, formal charge, the sum of its orders less the number of its bonds, and
    hydrogens."""
    z: int
    degree: int
    charge: int
    pi: int
    hydrogens: int


class Student(NamedTuple):
    r"""Student's t with 4 degrees of freedom, whose tails forgive what is rare."""
    mean: float
    spread: float

    def cost(self, value: float) -> float:
        r"""The negative log density (nats), less a constant."""
        x = (value - self.mean) / self.spread
        return math.log(self.spread) + 2.5 * math.log1p(0.25 * x * x)


def states_of(z: int, degree: int) -> list[State]:
    r"""All states of an element with so many heavy neighbors; none if it cannot have as many."""
    return [State(z, degree, charge, pi, valence - degree - pi)
            for charge, valences in VALENCES[z].items() for valence in valences
            for pi in range(min(valence - degree, 2 * degree) + 1)]


def twist_class(twist: float) -> int:
    r"""The number of the class of a torsion in :data:`TWISTS`."""
    return sum(twist > limit for limit in TWISTS[:-1])


def length_keys(a: State, b: State, order: int, ring: int) -> Iterator[Key]:
    r"""Classes of bonds between atoms in these states, from the finest to the coarsest."""
    a, b = sorted((a, b))
    yield (*a[:4], *b[:4], order, ring)
    yield (*a[:4], *b[:4], order)
    yield (a.z, a.charge, a.pi, b.z, b.charge, b.pi, order)
    a, b = sorted((a, b), key=lambda state: (state.z, state.pi))
    yield (a.z, min(a.pi, 1), b.z, min(b.pi, 1), order)
    yield (a.z, b.z, order)


def shape_keys(state: State, ring: int) -> Iterator[Key]:
    r"""Classes of atoms in this state whose smallest ring is this, from the finest to the coarsest."""
    yield (*state[:4], ring)
    yield state[:4]
    yield (state.degree, state.pi, ring)
    yield (state.degree, state.pi)


def twist_keys(a: State, b: State, order: int, ring: int) -> Iterator[Key]:
    r"""Classes of bonds by which torsions are counted, from the finest to the coarsest."""
    a, b = sorted((a, b), key=lambda state: (state.z, state.pi))
    yield (a.z, a.pi, b.z, b.pi, order, ring)
    yield (min(a.pi, 1) + min(b.pi, 1), order, ring)
    yield (min(a.pi, 1) + min(b.pi, 1), order)


class BondStatistics:
    r"""Costs (nats, up to a constant) of states, lengths, shapes and torsions.

    Args:
        tables: Four parts, each from a key, its numbers with commas between, to: ``states``, the cost; ``lengths`` (Å)
            and ``shapes`` (see :class:`~torch_geometric_inertial.chem.skeleton.Skeleton`), mean and spread; ``twists``,
            the cost of each class.
    """

    def __init__(self, tables: dict[str, dict[str, Any]]) -> None:
        parts: dict[str, dict[Key, Any]] = {
            name: {tuple(map(int, key.split(','))): value for key, value in part.items()}
            for name, part in tables.items()}
        self._states: dict[Key, float] = parts['states']
        self._lengths = {key: Student(*value) for key, value in parts['lengths'].items()}
        self._shapes = {key: Student(*value) for key, value in parts['shapes'].items()}
        self._twists: dict[Key, list[float]] = parts['twists']
        self.length = cache(self._length_of)
        self.shape = cache(self._shape_of)
        self.twist = cache(self._twist_of)

    def state(self, state: State) -> float:
        r"""−log of the share of this state among atoms of its element with as many heavy neighbors."""
        return self._states.get(state, 8.0 + 3.0 * abs(state.charge))

    def _length_of(self, a: State, b: State, order: int, ring: int) -> Student:
        for key in length_keys(a, b, order, ring):
            if key in self._lengths:
                return self._lengths[key]
        shorter = (1.0, 0.87, 0.78)[order - 1]
        return Student(float(COVALENT_RADII[a.z] + COVALENT_RADII[b.z]) * shorter, 0.05)

    def _shape_of(self, state: State, ring: int) -> Student | None:
        return next((self._shapes[key] for key in shape_keys(state, ring) if key in self._shapes), None)

    def _twist_of(self, a: State, b: State, order: int, ring: int) -> list[float]:
        known = (self._twists[key] for key in twist_keys(a, b, order, ring) if key in self._twists)
        return next(known, [0.0] * len(TWISTS))


@cache
def bond_statistics() -> BondStatistics:
    r"""Those of ``bond_statistics.json``."""
    text = files('torch_geometric_inertial.chem').joinpath('bond_statistics.json').read_text()
    return BondStatistics(json.loads(text))
