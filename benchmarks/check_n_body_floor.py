r"""How small the error of the n-body task becomes when the law of motion is known exactly, and only integrated, in each
number of steps, on the test split.

    python benchmarks/check_n_body_floor.py

The data are integrated in 1,000 steps of 0.001, by symplectic Euler with forces cut off; here the same law is followed
in few steps, by the integrator of `GeoMFormer(time_steps=…)` and by others. One evaluation of the law stands for one
pass through the network.
"""
import argparse
from collections.abc import Callable

import numpy as np
import torch
from qm9_arrays import machine
from torch import Tensor

from torch_geometric_inertial import GeoMFormerConfig
from torch_geometric_inertial.datasets.n_body import DRAWN, MAX_FORCE, SEED, Trajectories, draw_initial, simulate
from torch_geometric_inertial.models.atom_inputs import AtomInputs, AtomReader
from torch_geometric_inertial.models.learned_dynamics import equal_steps, shrinking_steps

#: Yoshida (1990): three leapfrog steps of these lengths are one of fourth order.
YOSHIDA = (1 / (2 - 2**(1 / 3)), -2**(1 / 3) / (2 - 2**(1 / 3)), 1 / (2 - 2**(1 / 3)))


class Law:
    """Accelerations of particles [B, 5, 3], and the shortest time in which a pair of each trajectory moves on [B]."""
    def __init__(self, charge: Tensor):
        self.charge = charge
        self.strength = charge.unsqueeze(1) * charge.unsqueeze(2)
        self.other = ~torch.eye(charge.size(1), dtype=torch.bool)

    def __call__(self, pos: Tensor) -> Tensor:
        offset = pos.unsqueeze(2) - pos.unsqueeze(1)
        distance = offset.norm(dim=-1).masked_fill(~self.other, 1.0)
        force = torch.einsum('bij,bijk->bik', self.strength * self.other / distance**3, offset)
        return force.clamp(-MAX_FORCE, MAX_FORCE)

    def pair_time(self, pos: Tensor, vel: Tensor) -> Tensor:
        distance = torch.cdist(pos, pos).masked_fill(~self.other, torch.inf)
        passing = distance / torch.cdist(vel, vel).clamp(min=1e-9)
        return torch.minimum((distance**3 / 2).sqrt(), passing).amin(dim=(1, 2))


def leapfrog(law: Law, pos: Tensor, vel: Tensor, h: Tensor | float) -> tuple[Tensor, Tensor]:
    """Half a drift, a kick, half a drift."""
    pos = pos + 0.5 * h * vel
    vel = vel + h * law(pos)
    return pos + 0.5 * h * vel, vel


def steps_of_parts(num: int, parts: tuple[float, ...] = (1.0, )) -> Callable:
    def run(law: Law, pos: Tensor, vel: Tensor) -> tuple[Tensor, Tensor]:
        for _ in range(num):
            for part in parts:
                pos, vel = leapfrog(law, pos, vel, part / num)
        return pos, torch.full((len(pos), ), float(num * len(parts)))
    return run


def steps_of_pair_time(longest: float, share: float, most: int) -> Callable:
    """Steps of at most `longest` and `share` of the shortest pair time, one length a trajectory; the last of `most`
    takes what is left."""
    def run(law: Law, pos: Tensor, vel: Tensor) -> tuple[Tensor, Tensor]:
        left, count = pos.new_ones(len(pos)), pos.new_zeros(len(pos))
        for k in range(most):
            h = torch.minimum(left, (share * law.pair_time(pos, vel)).clamp(max=longest)) if k + 1 < most else left
            count += h > 0
            pos, vel = leapfrog(law, pos, vel, h.view(-1, 1, 1))
            left = left - h
        return pos, count
    return run


def in_the_model(time_steps: int, step_share: float = 0.0) -> Callable:
    """The integrator of `GeoMFormer(time_steps=…, step_share=…)`, with the exact law in place of the network."""
    def run(law: Law, pos: Tensor, vel: Tensor) -> tuple[Tensor, Tensor]:
        count = 0
        num, size = pos.shape[:2]
        config = GeoMFormerConfig.preset('n_body')

        def acceleration(atoms: AtomInputs) -> Tensor:
            nonlocal count
            count += atoms.batch_size
            here = torch.tensor(config.elements)[atoms.types].to(atoms.pos.dtype)
            return Law(here.view(-1, size))(atoms.pos.view(-1, size, 3)).flatten(0, 1)

        time = pos.new_ones(())
        batch = torch.arange(num).repeat_interleave(size)
        reader = AtomReader(config, 10**9, 'GeoMFormer')
        atoms = reader(law.charge.flatten().long(), pos.flatten(0, 1), batch, weight=time, vel=vel.flatten(0, 1))
        end = shrinking_steps(acceleration, atoms, time, time_steps, step_share) if step_share > 0 else \
            equal_steps(acceleration, atoms, time, time_steps)
        return (end + atoms.center[atoms.batch]).view_as(pos), torch.full((num, ), count / num)
    return run


METHODS: dict[str, Callable] = {
    **{f'{num} equal steps, as in the model': in_the_model(num) for num in (8, 16, 20, 32, 64, 128)},
    **{f'{num} equal steps': steps_of_parts(num) for num in (8, 20, 64, 1000)},
    **{f'{num} × 3 equal steps of fourth order': steps_of_parts(num, YOSHIDA) for num in (7, 21)},
    **{f'shrinking steps, at most {most}, {share:g} of the pair time': steps_of_pair_time(0.125, share, most)
       for most in (16, 32, 64) for share in (0.5, 0.25, 0.125)},
    **{f'time-transformed steps, at most {most}, share {share:g}': in_the_model(most, share)
       for most, share in ((24, 1.2), (32, 0.9), (48, 0.6), (96, 0.6), (96, 0.3))},
}


def test_split() -> Trajectories:
    rng = np.random.RandomState(SEED)  # the protocol's own generator
    drawn = [draw_initial(num, rng) for num in DRAWN.values()]
    return simulate(*drawn[-1])


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    data = test_split()
    charge, encounter = torch.from_numpy(data.charge), torch.from_numpy(data.encounter)
    pos, vel, target = (torch.from_numpy(x).transpose(1, 2).contiguous() for x in (data.pos, data.vel, data.target))
    law = Law(charge)
    print(f'{machine(1)}\n{len(pos):,} test trajectories, {int(encounter.sum()):,} with a close encounter; '
          'mean squared error of a coordinate, the law known exactly\n\n'
          '| | evaluations | all | ± s.e. | clean | encounter | median |\n'
          '|---|---|---|---|---|---|---|')
    for name, run in METHODS.items():
        end, count = run(law, pos, vel)
        each = (end - target).square().mean(dim=(1, 2))
        print(f'| {name} | {float(count.double().mean()):.1f} | {float(each.mean()):.5f} | '
              f'{float(each.std()) / len(each)**0.5:.5f} | {float(each[~encounter].mean()):.5f} | '
              f'{float(each[encounter].mean()):.4f} | {float(each.median()):.1e} |', flush=True)


if __name__ == '__main__':
    main()
