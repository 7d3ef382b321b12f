"""The invariance law on real molecules: rotation, shift and relabeling must not change the token sequence.

    python benchmarks/check_invariance.py                      all of QM9, SMILES order, two random poses each
    python benchmarks/check_invariance.py --dtype float32      positions stored in float32 after the motion
    python benchmarks/check_invariance.py --bonds distance     bonds found anew from the moved positions

A molecule passes if its element sequence is identical and no coordinate differs by more than 1e-3 Å. Every exception
is listed. Nothing is dropped: the rate is over all molecules.
"""
import argparse
import time
from pathlib import Path

import torch
from qm9_arrays import FOLDER, Molecules, load, machine
from torch import Tensor

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.chem.order import ORDERS, canonical_order
from torch_geometric_inertial.frames import inertial_frames, to_frame

TOLERANCE = 1e-3  # Å


def rotations(size: int, generator: torch.Generator) -> Tensor:
    """Even over SO(3)."""
    q, r = torch.linalg.qr(torch.randn(size, 3, 3, generator=generator, dtype=torch.float64))
    q = q * r.diagonal(dim1=1, dim2=2).sign()[:, None]
    return q * torch.linalg.det(q)[:, None, None]


def moved(molecules: Molecules, generator: torch.Generator, dtype: torch.dtype) -> Molecules:
    """Each molecule turned, shifted by some 10 Å and relabeled."""
    z, pos, ptr, bonds, name = molecules
    molecule = molecules.molecule
    turn = rotations(len(name), generator)
    shift = 10 * torch.randn(len(name), 3, generator=generator, dtype=torch.float64)
    pos = torch.einsum('ni,nji->nj', pos, turn[molecule]) + shift[molecule]
    label = torch.rand(len(z), generator=generator).argsort()
    label = label[molecule[label].argsort(stable=True)]
    place = torch.empty_like(label)
    place[label] = torch.arange(len(label))
    bonds = place[bonds][:, torch.rand(bonds.size(1), generator=generator).argsort()]
    return Molecules(z[label], pos[label].to(dtype), ptr, bonds, name)


def tokens(molecules: Molecules, order: str, bonds: str) -> tuple[Tensor, Tensor, Tensor]:
    """Elements [T], coordinates [T, 3] and margins [B]."""
    z, pos, ptr, edges, _ = molecules
    frames = inertial_frames(pos, z, ptr)
    pos = to_frame(pos, frames, ptr)
    perm = canonical_order(z, pos, ptr, distance_bonds(pos, z, ptr) if bonds == 'distance' else edges, order)
    return z[perm], pos[perm], frames.margin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--folder', type=Path, default=FOLDER, help='the folder with qm9_geom.npz')
    parser.add_argument('--limit', type=int, help='a random choice of so many molecules')
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1])
    parser.add_argument('--dtype', choices=['float64', 'float32'], default='float64')
    parser.add_argument('--order', choices=ORDERS, default='smiles')
    parser.add_argument('--bonds', choices=['data', 'distance'], default='data')
    args = parser.parse_args()
    dtype = getattr(torch, args.dtype)

    molecules = load(args.folder)
    if args.limit is not None:
        choice = torch.randperm(len(molecules.name), generator=torch.Generator().manual_seed(0))[:args.limit]
        molecules = molecules.select(choice.sort().values)
    size, molecule = len(molecules.name), molecules.molecule
    print(f'{size} molecules, order {args.order}, {args.dtype}, bonds from {args.bonds}\n{machine()}')
    start = time.perf_counter()
    z, pos, margin = tokens(molecules._replace(pos=molecules.pos.to(dtype)), args.order, args.bonds)
    print(f'canonical form: {time.perf_counter() - start:.1f} s')

    failed = torch.zeros(size, dtype=torch.bool)
    for seed in args.seeds:
        other = moved(molecules, torch.Generator().manual_seed(seed), dtype)
        other_z, other_pos, _ = tokens(other, args.order, args.bonds)
        gap = torch.zeros(size, dtype=torch.float64).scatter_reduce_(
            0, molecule, (pos - other_pos).double().abs().amax(1), 'amax')
        wrong = torch.zeros(size, dtype=torch.bool).index_put_((molecule[z != other_z],), torch.tensor(True))
        bad = wrong | ~(gap <= TOLERANCE)
        failed |= bad
        ordinary = gap[~bad]
        print(f'seed {seed}: {100 * (1 - bad.double().mean()):.4f} % of {size} invariant '
              f'({int(bad.sum())} exceptions, {int(wrong.sum())} of them in the elements); '
              f'largest difference among the others {float(ordinary.max()):.1e} Å')
        for m in bad.nonzero().view(-1).tolist():
            print(f'  gdb {int(molecules.name[m])}: {float(gap[m]):.3g} Å, margin {float(margin[m]):.1e}')
    print(f'all seeds: {100 * (1 - failed.double().mean()):.4f} %')


if __name__ == '__main__':
    main()
