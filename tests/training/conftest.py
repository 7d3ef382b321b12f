from typing import NamedTuple

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn

from torch_geometric_inertial.training import PackedMolecules

settings.register_profile('lean', max_examples=30, deadline=None)  # a loaded machine is no failure
settings.load_profile('lean')


class Terms(NamedTuple):
    total: Tensor
    noise: Tensor


class Net(nn.Module):
    """The smallest model that has a matrix, a vector, dropout and noise."""
    def __init__(self, noise: float = 0.0, dropout: float = 0.0):
        super().__init__()
        self.linear, self.dropout, self.noise = nn.Linear(3, 2), nn.Dropout(dropout), noise

    def forward(self, batch, generator=None):
        noise = self.noise * torch.randn(batch.pos.shape, generator=generator)
        loss = (self.linear(self.dropout(batch.pos + noise)) - batch.pos[:, :2] + 1).square().mean()
        return Terms(loss, noise.square().mean())


@pytest.fixture
def net():
    """A factory of equal nets."""
    def make(**kwargs) -> Net:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            return Net(**kwargs)
    return make


@pytest.fixture(scope='session')
def waters() -> PackedMolecules:
    """24 molecules of three atoms; :obj:`pos[0, 0]` is the number of the molecule."""
    pos = torch.randn(24, 3, 3, generator=torch.Generator().manual_seed(0))
    pos[:, 0, 0] = torch.arange(24)
    return PackedMolecules(torch.tensor([8, 1, 1]).repeat(24), pos.flatten(0, 1), 3 * torch.arange(25))
