r"""How few evaluations of the diffusion head are enough: solvers and noise grids on trained weights.

    python benchmarks/study_sampler.py --weights qm9 --num-samples 1000

`flow` is the distance (Å) from the end of the same flow solved with 200 steps of Heun's method, at the conditions of
places in real molecules (median and 99 %); `molecules` writes molecules with it and judges them by the EDM rules.
"""
import argparse
import platform
import time
from unittest.mock import patch

import torch
from torch import Tensor
from torch_geometric.data import Batch
from torch_geometric.transforms import Compose

from torch_geometric_inertial import CanonicalOrder, InertialAR, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import stability
from torch_geometric_inertial.nn import diffusion_head
from torch_geometric_inertial.nn.pair_field import NeighborContext

GRIDS = {  # sigma_max, sigma_min, rho
    '40 to 0.002, 7': (40.0, 2e-3, 7.0),
    '10 to 0.002, 7': (10.0, 2e-3, 7.0),
    '20 to 0.005, 7': (20.0, 5e-3, 7.0),
    '10 to 0.005, 7': (10.0, 5e-3, 7.0),
    '6 to 0.01, 7': (6.0, 1e-2, 7.0),
}
STEPS = (4, 8, 12, 16, 24, 40)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9')
    parser.add_argument('--num-places', type=int, default=2000)
    parser.add_argument('--num-samples', type=int, default=1000)
    parser.add_argument('--solvers', nargs='*', default=['dpmpp', 'heun'])
    parser.add_argument('--grids', nargs='*', default=list(GRIDS), choices=list(GRIDS), metavar='GRID')
    parser.add_argument('--steps', nargs='*', type=int, default=STEPS)
    parser.add_argument('--molecules', nargs='*', default=[], metavar='SOLVER:GRID',
                        help='write molecules with these, such as "dpmpp:40 to 0.002, 7"')
    args = parser.parse_args()
    model = InertialAR.from_pretrained(args.weights)
    print(f'{model}, {platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}')
    if args.num_places > 0:
        flow(model, args)
    for choice in args.molecules:
        solver, grid = choice.split(':')
        molecules(model, solver, grid, args)


def flow(model: InertialAR, args: argparse.Namespace) -> None:
    cond, neighbors = places(model, args.num_places)
    noise = torch.randn(cond.size(0), 3, generator=torch.Generator().manual_seed(0))
    exact = {}
    for sigma_max in {GRIDS[grid][0] for grid in args.grids}:
        with grid_of(model, sigma_max, 2e-3, 7.0):
            exact[sigma_max] = model.network.head.sample(cond, noise, 399, 'heun', neighbors=neighbors)
    reference = exact[max(exact)]
    for sigma_max, x in exact.items():
        print(f'200 steps from {sigma_max:g} Å against {max(exact):g} Å: {distance(x, reference)}')
    print(f'{"solver":8} {"grid":16}' + ''.join(f'{n:>16}' for n in args.steps))
    for solver in args.solvers:
        for grid in args.grids:
            row = f'{solver:8} {grid:16}'
            for n in args.steps:
                with grid_of(model, *GRIDS[grid]):
                    x = model.network.head.sample(cond, noise, n, solver, neighbors=neighbors)
                row += f'{distance(x, exact[GRIDS[grid][0]]):>16}'
            print(row, flush=True)


def grid_of(model: InertialAR, sigma_max: float, sigma_min: float, rho: float):
    r"""The sampler on another grid of noise levels."""
    return patch.multiple(diffusion_head, SIGMA_MAX=sigma_max / model.network.head.sigma_data, SIGMA_MIN=sigma_min,
                          RHO=rho)


def distance(x: Tensor, y: Tensor) -> str:
    d = (x - y).norm(dim=1)
    return f'{d.median():.4f} {d.quantile(0.99):.3f}'


@torch.no_grad()
def places(model: InertialAR, num_places: int) -> tuple[Tensor, NeighborContext | None]:
    r"""What the head is told of the places of atoms in real molecules."""
    canonical = Compose([InertialFrame(), CanonicalOrder(model.config.order)])
    batch = canonical(Batch.from_data_list([d for d in QM9Sample()[:400] if set(d.z.tolist()) <= set(model.elements)]))
    told: list[tuple[Tensor, NeighborContext | None]] = []
    head = model.network.head.loss

    def listen(y: Tensor, cond: Tensor, num_draws: int, generator: torch.Generator | None,
               neighbors: NeighborContext | None) -> Tensor:
        told.append((cond, neighbors))
        return head(y, cond, num_draws, generator, neighbors)

    model.network.head.loss = listen
    try:
        model(batch)
    finally:
        model.network.head.loss = head
    cond, neighbors = told[0]
    some = torch.randperm(cond.size(0), generator=torch.Generator().manual_seed(0))[:num_places]
    return cond[some], None if neighbors is None else NeighborContext(*(t[some] for t in neighbors))


def molecules(model: InertialAR, solver: str, grid: str, args: argparse.Namespace) -> None:
    for n in args.steps:
        start = time.process_time()
        with grid_of(model, *GRIDS[grid]):
            report = stability(model.generate(args.num_samples, num_steps=n, solver=solver, seed=0))
        print(f'{solver:8} {grid:16} {n:3}  atoms {report.atom_share:.2%}  molecules {report.molecule_share:.1%}  '
              f'{time.process_time() - start:.0f} s CPU', flush=True)


if __name__ == '__main__':
    main()
