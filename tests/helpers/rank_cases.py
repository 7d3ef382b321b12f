"""Trainings whose steps do not depend on how many processes take them. To add a model: one line in CASES.

Run as a script, it is one of the processes: `rank_cases.py FOLDER` trains every case in FOLDER/CASE.
"""
import sys
from pathlib import Path

import torch

from torch_geometric_inertial import GeoMFormer, PaiNN, TorchMDNet
from torch_geometric_inertial.training import (
    EnergyForceLoss,
    FitConfig,
    PackedTargets,
    PositionLoss,
    PropertyLoss,
    fit,
)

SIZES = torch.tensor([3, 7, 2, 5, 4, 9, 3, 6, 5, 2, 8, 4])
SMALL = dict(elements=(1, 8), channels=16, num_layers=1)


def molecules() -> PackedTargets:
    """12 molecules of 2 to 9 atoms, of which none overlap, with every kind of target, in float64."""
    g = torch.Generator().manual_seed(0)
    ptr = torch.cat([SIZES.new_zeros(1), SIZES.cumsum(0)])
    num = int(ptr[-1])
    line = 1.5 * torch.arange(num).unsqueeze(1) * torch.tensor([1.0, 0.3, 0.0]) % 7
    pos = line + 0.3 * torch.rand(num, 3, generator=g)
    atoms = dict(z=torch.where(torch.rand(num, generator=g) < 0.5, 1, 8), pos=pos.double(),
                 **{name: torch.randn(num, 3, generator=g).double() for name in ('force', 'y')})
    numbers = {name: torch.randn(len(SIZES), generator=g).double() for name in ('energy', 'gap')}
    return PackedTargets(ptr, atoms, numbers)


CASES = {
    'GeoMFormer-positions': lambda data: PositionLoss(GeoMFormer(vector_head='position', heads=2, **SMALL)),
    'PaiNN-forces': lambda data: EnergyForceLoss(
        PaiNN(scalar_head='sum', vector_head='conservative', **SMALL), data),
    'TorchMDNet-property': lambda data: PropertyLoss(TorchMDNet(scalar_head='mean', heads=2, **SMALL), data, 'gap'),
}


def train(case: str, folder: Path, allow_reshard: bool = False, **change) -> torch.Tensor:
    """The weights after four steps in float64."""
    torch.manual_seed(0)
    data = molecules()
    loss = CASES[case](data).double()
    config = FitConfig(**dict(num_steps=4, batch_size=6, lr=1e-2, warmup_steps=0, log_every=2) | change)
    trained = fit(loss, data, folder / case, config, allow_reshard=allow_reshard)
    return torch.cat([p.detach().flatten() for p in trained.parameters()])


if __name__ == '__main__':
    torch.set_num_threads(1)
    for name in CASES:
        train(name, Path(sys.argv[1]) / 'molecules')
        train(name, Path(sys.argv[1]) / 'atoms', batch_atoms=25)
