"""Speed of canonical tokens on all of QM9: frames, and frame + order with worker processes.

    python benchmarks/bench_canonical.py [--workers 2] [--repeats 5]

The rival is the plain loop: RDKit's own molecule built atom by atom, its SMILES, and NumPy's eigenvectors, one
molecule at a time (on 2,000 of the molecules, in the same run).
"""
import argparse
import multiprocessing
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from qm9_arrays import FOLDER, Molecules, load, machine

from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.frames import inertial_frames, to_frame


def tokens(molecules: Molecules, order: str) -> torch.Tensor:
    torch.set_num_threads(1)
    z, pos, ptr, bonds, _ = molecules
    return canonical_order(z, to_frame(pos, inertial_frames(pos, z, ptr), ptr), ptr, bonds, order)


def plain_loop(molecules: Molecules) -> None:
    from rdkit import Chem

    ptr = molecules.ptr.tolist()
    bonds = molecules.bonds[:, molecules.bonds[0].argsort(stable=True)]
    first = torch.searchsorted(bonds[0].contiguous(), molecules.ptr).tolist()
    for m in range(len(ptr) - 1):
        a, b = ptr[m], ptr[m + 1]
        pos = molecules.pos[a:b].numpy()
        pos = pos - pos.mean(0)
        np.linalg.eigh((pos ** 2).sum() * np.eye(3) - pos.T @ pos)
        mol = Chem.RWMol()
        for number in molecules.z[a:b].tolist():
            mol.AddAtom(Chem.Atom(number))
        for u, v in (bonds[:, first[m]:first[m + 1]] - a).T.tolist():
            mol.AddBond(u, v, Chem.BondType.SINGLE)
        mol = mol.GetMol()
        mol.UpdatePropertyCache(strict=False)
        Chem.MolToSmiles(mol)
        Chem.RenumberAtoms(mol, list(mol.GetPropsAsDict(True, True)['_smilesAtomOutputOrder']))


def timed(function, repeats: int) -> tuple[float, str, float]:
    """Median and spread of the time, and the median of this process's own processor time."""
    times, own = [], []
    for _ in range(repeats):
        start, before = time.perf_counter(), time.process_time()
        function()
        times.append(time.perf_counter() - start)
        own.append(time.process_time() - before)
    return statistics.median(times), f'{min(times):.2f} to {max(times):.2f}', statistics.median(own)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=FOLDER)
    parser.add_argument('--workers', type=int, default=2)
    parser.add_argument('--repeats', type=int, default=5)
    parser.add_argument('--order', choices=ORDERS, default='smiles')
    args = parser.parse_args()

    molecules = load(args.folder)
    size = len(molecules.name)
    few = molecules.select(torch.arange(0, size, size // 2000)[:2000])
    shares = [molecules.select(part) for part in torch.arange(size).chunk(4 * args.workers)]
    print(f'{machine()}; {args.workers} worker processes; {size} molecules, {len(molecules.z)} atoms\n')
    print('| work | median (s) | spread (s) | own processor time (s) | molecules/s |\n|---|---|---|---|---|')

    def row(name: str, count: int, result: tuple[float, str, float]) -> None:
        print(f'| {name} | {result[0]:.2f} | {result[1]} | {result[2]:.2f} | {count / result[0]:.0f} |', flush=True)

    row('frames, batched', size,
        timed(lambda: inertial_frames(molecules.pos, molecules.z, molecules.ptr), args.repeats))
    with multiprocessing.get_context('spawn').Pool(args.workers) as pool:
        pool.starmap(tokens, [(few, args.order)] * args.workers)  # imports done
        row(f'frame + {args.order} order, {args.workers} processes', size,
            timed(lambda: pool.starmap(tokens, [(share, args.order) for share in shares]), args.repeats))
    torch.set_num_threads(1)
    row(f'frame + {args.order} order, 1 process, 2,000 molecules', 2000,
        timed(lambda: tokens(few, args.order), args.repeats))
    row('plain loop, 1 process, 2,000 molecules', 2000, timed(lambda: plain_loop(few), args.repeats))


if __name__ == '__main__':
    main()
