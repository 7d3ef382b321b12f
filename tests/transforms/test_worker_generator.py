import itertools

import pytest
import torch
from torch.utils.data import Dataset
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_inertial.training import RandomOrder, RandomPose
from torch_geometric_inertial.transforms import InertialFrame


class Same(Dataset):
    """One molecule again and again, each time through the transform: nearly planar, with many frames to choose from."""

    def __init__(self, transform):
        turn = torch.arange(6) * torch.pi / 3
        ring = torch.stack([turn.cos(), turn.sin(), 0 * turn], 1)
        self.item = Data(z=torch.tensor([6, 7, 8, 9, 15, 16]), pos=1.4 * ring)
        self.transform = transform

    def __len__(self):
        return 12

    def __getitem__(self, index):
        return self.transform(self.item)


def draws(transform, num_workers, epochs=2, seed=0, **kwargs):
    """Positions [epochs, 12, 18] of the molecule as the loader gives it."""
    seeded = torch.Generator().manual_seed(seed)
    loader = DataLoader(Same(transform), num_workers=num_workers, generator=seeded, **kwargs)
    return torch.stack([torch.stack([batch.pos.flatten() for batch in loader]) for _ in range(epochs)])


TRANSFORMS = {'InertialFrame': lambda: InertialFrame(ambiguity='sample', spread=0.5),
              'RandomPose': lambda: RandomPose(180.0, 1.0), 'RandomOrder': lambda: RandomOrder('random', 1.0)}


@pytest.mark.parametrize('num_workers', [0, 2])
@pytest.mark.parametrize('name', TRANSFORMS)
def test_draws_differ_between_workers_and_epochs(name, num_workers):
    first, second = draws(TRANSFORMS[name](), num_workers)
    assert not torch.equal(first, second)
    assert not torch.equal(first[0::2], first[1::2])  # the workers take turns
    assert len({tuple(row.tolist()) for row in first}) > 3


@pytest.mark.parametrize('num_workers', [0, 2])
def test_the_seeds_make_them_repeatable(num_workers):
    def of(seed, loader_seed):
        return draws(InertialFrame(ambiguity='sample', spread=0.5, generator=seed), num_workers, seed=loader_seed)

    assert torch.equal(of(3, 1), of(3, 1)) and not torch.equal(of(3, 1), of(4, 1))
    assert torch.equal(of(3, 1), of(3, 2)) == (num_workers == 0)  # the loader's own generator seeds its workers


def test_workers_that_live_on_go_on():
    first, second = draws(InertialFrame(ambiguity='sample', spread=0.5), 2, persistent_workers=True)
    assert not torch.equal(first, second)


def test_a_molecule_that_is_drawn_from_stays_as_it_is():
    item = Same(None).item
    for transform, before in itertools.product([make() for make in TRANSFORMS.values()], [item.pos.clone()]):
        transform(item)
        assert torch.equal(item.pos, before)
