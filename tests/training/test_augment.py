import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.training import RandomPose
from torch_geometric_inertial.training.augment import random_rotations


@given(degrees=st.floats(0, 360), shift=st.floats(0, 3), seed=st.integers(0, 1000))
def test_molecules_stay_what_they_are(waters, degrees, shift, seed):
    batch = waters.batch(torch.arange(24))
    before = batch.pos.view(24, 3, 3).clone()
    after = RandomPose(degrees, shift)(batch, torch.Generator().manual_seed(seed)).pos.view(24, 3, 3)
    torch.testing.assert_close(torch.cdist(after, after), torch.cdist(before, before), atol=1e-3, rtol=1e-4)


def test_the_angles_have_the_spread_that_was_asked_for():
    turn = random_rotations(5000, 10.0, torch.Generator().manual_seed(0)).double()
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(5000).double(), atol=1e-5, rtol=0)
    angle = ((turn.diagonal(dim1=1, dim2=2).sum(1) - 1) / 2).clamp(-1, 1).arccos()
    assert angle.square().mean().sqrt().item() == pytest.approx(math.radians(10), rel=0.05)
    even = random_rotations(5000, 180.0, torch.Generator().manual_seed(0))
    assert even.mean(0).abs().max() < 0.05  # uniform on SO(3)


def test_errors():
    with pytest.raises(ValueError, match=r"'degrees' and 'shift' must not be negative \(got -1 and 0.0\)"):
        RandomPose(-1)
