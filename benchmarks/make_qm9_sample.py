r"""Makes the sample of QM9 that the package ships, ``torch_geometric_inertial/datasets/qm9_sample.npz``.

    python benchmarks/make_qm9_sample.py --data ../shared/data/qm9

A random, seeded draw from the training part of the EDM split, so that no test molecule is in it. QM9 is CC0:
Ramakrishnan, Dral, Rupp, von Lilienfeld, Scientific Data 1, 140022 (2014).
"""
import argparse
from pathlib import Path

import numpy as np
from data_folder import DATA

import torch_geometric_inertial.datasets
from torch_geometric_inertial.datasets.qm9_sample import STEP, STEP_HARTREE, UNKNOWN

NUM_MOLECULES = 10_000
SEED = 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', type=Path, default=DATA / 'qm9')
    default = Path(torch_geometric_inertial.datasets.__file__).parent / 'qm9_sample.npz'
    parser.add_argument('--out', type=Path, default=default)
    args = parser.parse_args()

    with np.load(args.data / 'qm9_splits.npz') as file:
        train = file['edm_train']
    with np.load(args.data / 'qm9_geom.npz') as file:
        geom = dict(file)
    with np.load(args.data / 'qm9_targets.npz') as file:
        targets, columns = file['T'], list(file['columns'])

    rows = np.flatnonzero(np.isin(geom['gdb_id'], train))
    rows = np.sort(np.random.default_rng(SEED).choice(rows, NUM_MOLECULES, replace=False))
    atoms = np.concatenate([np.arange(geom['ptr'][i], geom['ptr'][i + 1]) for i in rows])
    bonds = np.concatenate([np.arange(geom['bond_ptr'][i], geom['bond_ptr'][i + 1]) for i in rows])
    num_atoms = np.diff(geom['ptr'])[rows]

    pos = geom['pos_1e5'][atoms] * 1e-5
    start = np.cumsum(num_atoms) - num_atoms
    center = np.add.reduceat(pos, start) / num_atoms[:, None]
    steps = np.round((pos - np.repeat(center, num_atoms, axis=0)) / STEP).astype(np.int32)
    homo, gap = (np.round(targets[geom['gdb_id'][rows] - 1, columns.index(name)] / STEP_HARTREE)
                 for name in ('homo', 'gap'))
    np.savez_compressed(
        args.out,
        num_atoms=num_atoms.astype(np.uint8),
        num_bonds=np.diff(geom['bond_ptr'])[rows].astype(np.uint8),
        gdb_id=geom['gdb_id'][rows].astype(np.int32),
        z=geom['z'][atoms],
        formal_charge=geom['formal_charge'][atoms],
        pos_high=(steps >> 8).T.astype(np.int16),  # the two bytes compress better apart
        pos_low=(steps & 255).T.astype(np.uint8),
        bond_u=geom['bond_u'][bonds],
        bond_v=geom['bond_v'][bonds],
        bond_order=geom['bond_order'][bonds],
        homo=homo.astype(np.int16),
        gap=np.nan_to_num(gap, nan=UNKNOWN).astype(np.int16),
    )
    print(f'{args.out.name}: {len(rows)} molecules, {len(atoms)} atoms, {args.out.stat().st_size / 1e6:.2f} MB')


if __name__ == '__main__':
    main()
