r"""How long the protocols take.

    OMP_NUM_THREADS=1 python benchmarks/bench_metrics.py [--num-molecules 10000] [--drugs ../shared/data/…/dft8k.npz]

The rival of EDM's stability is the double loop over pairs of atoms of EDM's own evaluation. Times are of the processor
(of this process, and its children where a protocol has some), medians of repeated runs.
"""
import argparse
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from check_metrics import drugs
from data_folder import DATA
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import allowed_valences, longest_bonds
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate, memorization, stability


def double_loop(molecules: list[Data]) -> tuple[int, int]:
    """Stable atoms and molecules, pair by pair, as EDM's ``check_stability`` goes through them."""
    limit, allowed = longest_bonds().tolist(), allowed_valences().tolist()
    stable_atoms = stable_molecules = 0
    for data in molecules:
        z, pos = data.z.tolist(), data.pos.double().numpy()
        x, y, w = pos[:, 0], pos[:, 1], pos[:, 2]
        valence = np.zeros(len(z), dtype=int)
        for i in range(len(z)):
            for j in range(i + 1, len(z)):
                p, q = np.array([x[i], y[i], w[i]]), np.array([x[j], y[j], w[j]])
                distance = 100 * np.sqrt(np.sum((p - q)**2))
                order = 0
                while order < 3 and distance < limit[order][z[i]][z[j]]:
                    order += 1
                valence[i] += order
                valence[j] += order
        good = [allowed[number][min(count, 7)] for number, count in zip(z, valence.tolist(), strict=True)]
        stable_atoms += sum(good)
        stable_molecules += all(good)
    return stable_atoms, stable_molecules


def processor_time() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def measure(function: Callable[[], object], repeats: int) -> tuple[float, float, float]:
    """Median processor time, its spread, and the median of the time that passes."""
    used, passed = [], []
    for _ in range(repeats):
        start = processor_time(), time.perf_counter()
        function()
        used.append(processor_time() - start[0])
        passed.append(time.perf_counter() - start[1])
    return statistics.median(used), max(used) - min(used), statistics.median(passed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--num-molecules', type=int, default=10_000)
    parser.add_argument('--drugs', type=Path, default=DATA / 'cascade_dft_drugs' / 'dft8k.npz')
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--slow-repeats', type=int, default=3, help='of all but the first three rows')
    parser.add_argument('--workers', type=int, default=2)
    args = parser.parse_args()

    molecules = list(QM9Sample()[:args.num_molecules])
    print(f'{platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__} on {torch.get_num_threads()} '
          f'thread(s), load {os.getloadavg()[0]:.1f}; processor s, spread, s that passed')

    def row(title: str, number: int, function: Callable[[], object], repeats: int = args.repeats) -> float:
        used, spread, passed = measure(function, repeats)
        print(f'{title:34} {number:6} molecules {used:8.2f} s ± {spread:.2f}, {passed:8.2f} s', flush=True)
        return used

    few = molecules[::10]
    fast, loop = stability(few), double_loop(few)
    assert (int(fast.num_stable.sum()), int(fast.molecule.sum())) == loop, 'the rival counts otherwise'
    ours = row('stability (edm-qm9)', len(molecules), lambda: stability(molecules))
    rival = row('double loop over pairs of atoms', len(molecules), lambda: double_loop(molecules), 3)
    print(f'{"":34} {rival / ours:.0f} times the processor time')
    real = drugs(args.drugs)[0] if args.drugs.is_file() else []
    row('edm-qm9', len(molecules), lambda: evaluate(molecules, 'edm-qm9'))
    for protocol in ('bonds', 'geom-revisited', 'geometry', 'xyz2mol-vdw', 'xyz2mol-ctd'):
        row(protocol, len(molecules), lambda p=protocol: evaluate(molecules, p), args.slow_repeats)
    if real:
        for protocol in ('edm-geom', 'bonds', 'geom-revisited', 'geometry'):
            row(f'{protocol}, drugs', len(real), lambda p=protocol: evaluate(real, p), args.slow_repeats)
        for protocol, number in (('strain', 500), ('posebusters', 20)):
            row(f'{protocol}, drugs', number, lambda p=protocol, n=number: evaluate(real[:n], p), args.slow_repeats)
            row(f'{protocol}, drugs, {args.workers} workers', number,
                lambda p=protocol, n=number: evaluate(real[:n], p, workers=args.workers), args.slow_repeats)
    row(f'memorization, of {len(molecules)}', len(few), lambda: memorization(few, molecules), 1)


if __name__ == '__main__':
    main()
