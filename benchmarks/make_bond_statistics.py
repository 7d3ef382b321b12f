r"""Writes the statistics by which `with_bonds` finds bond orders, from the arrays beside the repository.

    python benchmarks/make_bond_statistics.py

From every second of QM9's training molecules, the drug molecules that `check_heavy_bonds.py` does not test (each counts
six times), and the conformer benchmark; what these lack is by hand and counts twenty times. A molecule of another bond
graph than its distances tell, or with radicals, is left out.
"""
import argparse
import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import chain, islice, pairwise
from pathlib import Path

from data_folder import DATA
from known_bonds import Known, conformers, drugs, known_states, qm9, rare

from torch_geometric_inertial.chem.bond_statistics import (
    TWISTS,
    State,
    length_keys,
    shape_keys,
    twist_class,
    twist_keys,
)
from torch_geometric_inertial.chem.skeleton import Skeleton, skeleton_of

OUT = Path(__file__).resolve().parents[1] / 'torch_geometric_inertial' / 'chem' / 'bond_statistics.json'
LEAST = 4  #: Weight of the rarest class whose mean is kept; of torsions 20.
FORGIVENESS = 4  #: How many values of three times the least spread are added to each class.


class Moments:
    def __init__(self) -> None:
        self.n = self.sum = self.squares = 0.0

    def add(self, value: float, weight: float) -> None:
        self.n += weight
        self.sum += weight * value
        self.squares += weight * value * value

    def row(self, least: float, digits: int) -> list[float]:
        """Mean and spread, which is at least this."""
        mean = self.sum / self.n
        scatter = max(self.squares - self.n * mean * mean, 0.0)
        spread = math.sqrt((scatter + FORGIVENESS * (3 * least)**2) / (self.n + FORGIVENESS))
        return [round(mean, digits), round(max(spread, least), digits)]


class Counts:
    """All that is counted, molecule by molecule."""

    def __init__(self) -> None:
        self.states: Counter[State] = Counter()
        self.lengths: defaultdict = defaultdict(Moments)
        self.shapes: defaultdict = defaultdict(Moments)
        self.angular: set = set()  # shapes that are angles
        self.twists: defaultdict = defaultdict(lambda: [0.0] * len(TWISTS))

    def add(self, skeleton: Skeleton, states: list[State], orders: list[int], weight: int) -> None:
        for state, (value, ring) in zip(states, skeleton.shape, strict=True):
            self.states[state] += weight
            if value is not None:
                for key in shape_keys(state, ring):
                    self.shapes[key].add(value, weight)
                    if state.degree == 2:
                        self.angular.add(key)
        for (u, v, length, ring), twist, order in zip(skeleton.bonds, skeleton.twist, orders, strict=True):
            for key in length_keys(states[u], states[v], order, ring):
                self.lengths[key].add(length, weight)
            if twist is not None:
                for key in twist_keys(states[u], states[v], order, ring):
                    self.twists[key][twist_class(twist)] += weight

    def tables(self) -> dict[str, dict[str, list[float] | float]]:
        total: Counter[tuple[int, int]] = Counter()
        for state, n in self.states.items():
            total[state.z, state.degree] += n
        return {
            'states': {text(s): round(math.log((total[s.z, s.degree] + 2) / (n + 0.2)) / (2 if s.charge else 1), 2)
                       for s, n in sorted(self.states.items())},  # charges come in pairs: each bears half of the cost
            'lengths': {text(key): m.row(0.008, 4) for key, m in sorted(self.lengths.items()) if m.n >= LEAST},
            'shapes': {text(key): m.row(1.0, 1) if key in self.angular else m.row(0.02, 3)
                       for key, m in sorted(self.shapes.items()) if m.n >= LEAST},
            'twists': {text(key): log_density(n) for key, n in sorted(self.twists.items()) if sum(n) >= 20},
        }


def log_density(counts: list[float]) -> list[float]:
    """The cost of each class of torsions, against the uniform distribution of torsions; three more are uniform."""
    shares = [(high - low) / 90 for low, high in pairwise((0.0, *TWISTS))]
    return [round(-math.log((n + 3 * share) / (sum(counts) + 3) / share), 2)
            for n, share in zip(counts, shares, strict=True)]


def text(key: tuple[int, ...]) -> str:
    return ','.join(map(str, key))


def weighted(molecules: Iterable[Known], weight: int) -> Iterator[tuple[Known, int]]:
    return ((known, weight) for known in molecules)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=DATA)
    parser.add_argument('--out', type=Path, default=OUT)
    args = parser.parse_args()
    counts, left_out, used = Counts(), 0, 0
    for known, weight in chain(weighted(rare(), 20), weighted(drugs(False, args.data), 6),
                               weighted(conformers(args.data), 1),
                               weighted(islice(qm9('train', args.data), 0, None, 2), 1)):
        skeleton = skeleton_of(known.z, known.pos)
        truth = known_states(skeleton, known)
        if truth is None:
            left_out += 1
            continue
        used += 1
        counts.add(skeleton, *truth, weight)
    tables = counts.tables()
    lines = ',\n'.join(f'{json.dumps(part)}: {{\n' + ',\n'.join(f'{json.dumps(key)}: {json.dumps(row)}'
                                                                for key, row in rows.items()) + '\n}'
                       for part, rows in tables.items())
    args.out.write_text(f'{{\n{lines}\n}}\n')
    print(f'{used} molecules, {left_out} left out;', {part: len(rows) for part, rows in tables.items()},
          f'{args.out.stat().st_size / 1024:.0f} KiB')


if __name__ == '__main__':
    main()
