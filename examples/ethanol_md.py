r"""Relaxes ethanol and lets it move at constant energy: does a trained model keep the energy it says there is?

    python examples/ethanol_md.py                                    the weights 'ethanol' that come with the package
    python examples/ethanol_md.py --weights outputs/rmd17/model      those of `python examples/rmd17_forces.py`
    python examples/ethanol_md.py --weights run1/model run2/model    the mean of several, and how far they are apart

Writes the trajectory and the energies at each step to OUT; `benchmarks/plot_energies.py` plots them. The drift is the
slope of the total energy; the fluctuation is what a time step of that length costs.
"""
import argparse
from pathlib import Path

import numpy as np
import torch
from ase import Atoms, units
from ase.build import molecule
from ase.io import Trajectory
from ase.md.velocitydistribution import Stationary, ZeroRotation
from ase.md.verlet import VelocityVerlet
from ase.optimize import BFGS

from torch_geometric_inertial.calculators import InertialCalculator

COLUMNS = ('time_fs', 'potential_eV', 'kinetic_eV', 'forces_std_eV_per_A')


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', nargs='+', default=['ethanol'], help='bundled name or folder; several: their mean')
    parser.add_argument('--dtype', choices=['float32', 'float64'], default='float64')
    parser.add_argument('--fmax', type=float, default=0.01, help='largest force of the relaxed molecule (eV/Å)')
    parser.add_argument('--max-relax-steps', type=int, default=500, help='when to stop if it is not reached')
    parser.add_argument('--temperature', type=float, default=300.0,
                        help='K; the start has twice that, as bonds take half of it')
    parser.add_argument('--timestep', type=float, default=0.5, help='fs')
    parser.add_argument('--steps', type=int, default=2000, help='time steps')
    parser.add_argument('--seed', type=int, default=0, help='of the first velocities')
    parser.add_argument('--out', type=Path, default=Path('outputs/ethanol_md'), help='folder of all results')
    return parser.parse_args()


def relax(atoms: Atoms, fmax: float, steps: int) -> None:
    before, start = atoms.get_potential_energy(), atoms.get_positions()
    relaxation = BFGS(atoms, logfile=None)
    converged = relaxation.run(fmax=fmax, steps=steps)
    moved = np.linalg.norm(atoms.positions - start, axis=1).max()
    force = np.linalg.norm(atoms.get_forces(), axis=1).max()
    print(f"{'relaxed' if converged else 'not relaxed'} in {relaxation.nsteps} steps: "
          f'{1000 * (atoms.get_potential_energy() - before):.1f} meV, the largest force is {force:.4f} eV/Å, atoms '
          f'moved by up to {moved:.3f} Å')


def move(atoms: Atoms, args: argparse.Namespace) -> np.ndarray:
    """The columns of COLUMNS, a row per step and one for the start."""
    scale = np.sqrt(2 * units.kB * args.temperature * atoms.get_masses())
    atoms.set_momenta(scale[:, None] * np.random.default_rng(args.seed).normal(size=(len(atoms), 3)))
    Stationary(atoms)
    ZeroRotation(atoms)
    dynamics, rows = VelocityVerlet(atoms, timestep=args.timestep * units.fs), []

    def observe() -> None:
        potential, spread = atoms.get_potential_energy(), atoms.calc.standard_deviations.get('forces', np.zeros(1))
        rows.append((dynamics.nsteps * args.timestep, potential, atoms.get_kinetic_energy(), spread.max()))
    dynamics.attach(observe)
    with Trajectory(args.out / 'trajectory.traj', 'w', atoms) as trajectory:
        dynamics.attach(trajectory.write, interval=10)
        dynamics.run(args.steps)
    return np.array(rows)


def drift(rows: np.ndarray) -> tuple[float, float]:
    """Slope of the total energy (eV/ps) and root mean square of what is left (eV)."""
    time, total = rows[:, 0] / 1000, rows[:, 1] + rows[:, 2]
    slope, start = np.polyfit(time, total - total[0], 1)
    return float(slope), float(np.sqrt(np.mean((total - total[0] - slope * time - start) ** 2)))


def main() -> None:
    args = parse_arguments()
    atoms = molecule('CH3CH2OH')
    atoms.calc = InertialCalculator.from_pretrained(*args.weights, dtype=getattr(torch, args.dtype))
    args.out.mkdir(parents=True, exist_ok=True)
    relax(atoms, args.fmax, args.max_relax_steps)
    rows = move(atoms, args)
    np.savetxt(args.out / 'energy.csv', rows, delimiter=',', header=','.join(COLUMNS), comments='')
    slope, rest = drift(rows)
    temperature = rows[:, 2].mean() / (0.5 * units.kB * (3 * len(atoms) - 6))  # it neither drifts nor turns
    print(f'{args.steps} steps of {args.timestep:g} fs at {temperature:.0f} K: the total energy drifts by '
          f'{1000 * slope / len(atoms):.4f} meV per atom and ps, and fluctuates by {1000 * rest / len(atoms):.4f} meV '
          f'per atom (the kinetic energy by {1000 * rows[:, 2].std() / len(atoms):.4f})')
    if len(args.weights) > 1:
        print(f'forces of the models are apart by up to {rows[:, 3].max():.4f} eV/Å')
    print(f"wrote {args.out / 'trajectory.traj'} and {args.out / 'energy.csv'}")


if __name__ == '__main__':
    main()
