r"""The metrics on real QM9: the ceiling that a generator can honestly reach.

    python benchmarks/check_metrics.py --data ../shared/data/qm9 [--limit N]
"""
import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.metrics import evaluate, stability


def real_molecules(folder: Path, limit: int | None) -> list[Data]:
    """Molecules of ``qm9_geom.npz``; a random, seeded draw if there is a limit."""
    with np.load(folder / 'qm9_geom.npz') as file:
        z, ptr = torch.from_numpy(file['z']).long(), file['ptr'].tolist()
        pos = torch.from_numpy(file['pos_1e5'] * 1e-5)
    chosen = range(len(ptr) - 1)
    if limit is not None:
        chosen = np.random.default_rng(0).choice(len(ptr) - 1, limit, replace=False).tolist()
    return [Data(z=z[ptr[i]:ptr[i + 1]], pos=pos[ptr[i]:ptr[i + 1]]) for i in chosen]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=Path('../shared/data/qm9'))
    parser.add_argument('--limit', type=int)
    args = parser.parse_args()

    molecules = real_molecules(args.data, args.limit)
    start = time.perf_counter()
    stability(molecules)
    middle = time.perf_counter()
    report = evaluate(molecules)
    end = time.perf_counter()
    print(report)
    print(f'torch {torch.__version__}, {torch.get_num_threads()} thread(s): '
          f'stability alone {middle - start:.1f} s, all figures {end - middle:.1f} s')


if __name__ == '__main__':
    main()
