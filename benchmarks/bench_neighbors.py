r"""Pairs within a cutoff: our cell list against ASE's and, where they are installed, vesin's and matscipy's.

    python benchmarks/bench_neighbors.py [--sizes 100 1000 10000] [--cutoff 5]

Every rival starts from the same float64 tensors and ends with the ordered pairs (i, j, lattice shift) as tensors; the
pairs are compared before anything is timed. Points are a jittered lattice with the density of water, 0.1 atoms per Å³.
"""
import argparse
import platform
import statistics
import time
from collections.abc import Callable

import ase
import torch
from ase.neighborlist import neighbor_list as ase_neighbor_list
from torch import Tensor

from torch_geometric_inertial.neighbors import neighbor_list, periodic_neighbor_list

ROUNDS = 7
DENSITY = 0.1


def points(size: int) -> tuple[Tensor, Tensor]:
    """Positions [N, 3] and a cubic cell [3, 3]."""
    side, per_axis = (size / DENSITY) ** (1 / 3), round(size ** (1 / 3) + 0.5)
    grid = torch.cartesian_prod(*[torch.arange(per_axis, dtype=torch.float64)] * 3)
    g = torch.Generator().manual_seed(0)
    grid = grid[torch.randperm(len(grid), generator=g)[:size]]
    jitter = 0.3 * torch.randn(size, 3, generator=g, dtype=torch.float64)
    return (grid + jitter) * side / per_axis, side * torch.eye(3, dtype=torch.float64)


def rivals(pos: Tensor, cell: Tensor, periodic: bool, cutoff: float) -> dict[str, Callable[[], tuple[Tensor, ...]]]:
    ptr, pbc = torch.tensor([0, len(pos)]), torch.full((1, 3), periodic)

    def ours() -> tuple[Tensor, ...]:
        if periodic:
            return periodic_neighbor_list(pos, ptr, cell.unsqueeze(0), pbc, cutoff)
        row, col = neighbor_list(pos, ptr, cutoff)
        return row, col, row.new_zeros(len(row), 3)

    def of_ase() -> tuple[Tensor, ...]:
        atoms = ase.Atoms(numbers=[1] * len(pos), positions=pos.numpy(), cell=cell.numpy(), pbc=periodic)
        return tuple(torch.from_numpy(x) for x in ase_neighbor_list('ijS', atoms, cutoff))

    out: dict[str, Callable[[], tuple[Tensor, ...]]] = {'ours': ours, f'ASE {ase.__version__}': of_ase}
    try:
        import vesin

        def of_vesin() -> tuple[Tensor, ...]:
            search = vesin.NeighborList(cutoff=cutoff, full_list=True, sorted=True)
            found = search.compute(pos.numpy(), cell.numpy(), periodic, 'ijS')
            return tuple(torch.from_numpy(x.astype('int64')) for x in found)
        out['vesin'] = of_vesin
    except ImportError:
        pass
    try:
        from matscipy.neighbours import neighbour_list

        def of_matscipy() -> tuple[Tensor, ...]:
            found = neighbour_list('ijS', positions=pos.numpy(), cell=cell.numpy(), pbc=[periodic] * 3, cutoff=cutoff)
            return tuple(torch.from_numpy(x) for x in found)
        out['matscipy'] = of_matscipy
    except ImportError:
        pass
    return out


def canonical(pairs: tuple[Tensor, ...]) -> Tensor:
    """[E, 5], sorted, without the pairs of a point and itself."""
    row, col, shift = (x.long() for x in pairs)
    table = torch.cat([torch.stack([row, col], dim=1), shift], dim=1)
    table = table[(row != col) | shift.any(1)]
    return table[(((table[:, 0] * 10**6 + table[:, 1]) * 21 + table[:, 2]) * 21 * 21
                  + table[:, 3] * 21 + table[:, 4]).argsort()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--sizes', type=int, nargs='+', default=[30, 100, 1000, 10_000])
    parser.add_argument('--cutoff', type=float, default=5.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    print(f'{platform.machine()}, torch {torch.__version__}, 1 thread, cutoff {args.cutoff} Å; processor ms, median of '
          f'{ROUNDS} interleaved rounds (interquartile range)\n')
    print('| points | periodic | pairs | finder | ms | times ASE\'s |\n|---|---|---|---|---|---|')
    for size in args.sizes:
        for periodic in (False, True):
            pos, cell = points(size)
            finders = rivals(pos, cell, periodic, args.cutoff)
            expected = canonical(finders['ours']())
            for name, find in finders.items():
                assert torch.equal(canonical(find()), expected), f'{name} finds other pairs'
            times: dict[str, list[float]] = {name: [] for name in finders}
            for _ in range(ROUNDS):
                for name, find in finders.items():
                    start = time.process_time()
                    find()
                    times[name].append(1e3 * (time.process_time() - start))
            base = statistics.median(times[f'ASE {ase.__version__}'])
            for name, taken in times.items():
                low, middle, high = statistics.quantiles(taken, n=4)
                print(f'| {size} | {"yes" if periodic else "no"} | {len(expected)} | {name} '
                      f'| {middle:.2f} ({high - low:.2f}) | {middle / base:.2f} |', flush=True)


if __name__ == '__main__':
    main()
