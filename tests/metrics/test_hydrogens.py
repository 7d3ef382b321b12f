"""Placed hydrogens against where they should be."""
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from torch_geometric_inertial.metrics import hydrogen_report, hydrogen_rmsd

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))


@given(seed=st.integers(0, 10**6), shift=st.floats(0, 0.1))
def test_order_does_not_matter_and_distance_does(seed, shift):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.stack(torch.meshgrid(*[torch.arange(2.0)] * 3, indexing='ij'), -1).view(-1, 3)
    truth = Data(z=torch.tensor([6, 6, 7, 8, 1, 1, 1, 1]), pos=pos)
    perm = torch.randperm(8, generator=generator)
    placed = Data(z=truth.z[perm], pos=pos[perm])
    assert hydrogen_rmsd(placed, truth) == 0
    moved = (placed.z == 1).nonzero()[:2, 0]
    placed.pos = placed.pos.clone()
    placed.pos[moved, 0] += shift
    assert math.isclose(hydrogen_rmsd(placed, truth), shift * math.sqrt(2 / 8), abs_tol=1e-6)


def test_the_best_assignment_is_taken_within_an_element():
    swapped = Data(z=WATER.z, pos=WATER.pos[[0, 2, 1]])
    assert hydrogen_rmsd(swapped, WATER) == 0
    across = Data(z=torch.tensor([8, 1, 1]), pos=WATER.pos[[1, 0, 2]])  # elements must not swap
    assert math.isclose(hydrogen_rmsd(across, WATER), 0.96 * math.sqrt(2 / 3), abs_tol=1e-6)


def test_a_miss_is_a_miss():
    other = Data(z=torch.tensor([8, 1, 6]), pos=WATER.pos)
    broken = Data(z=WATER.z, pos=WATER.pos * torch.nan)
    near = Data(z=WATER.z, pos=WATER.pos + torch.tensor([0.07, 0, 0]))
    for bad in (None, other, broken, Data(z=WATER.z[:2], pos=WATER.pos[:2])):
        assert hydrogen_rmsd(bad, WATER) == math.inf
    report = hydrogen_report([WATER, near, None, other], [WATER] * 4)
    assert report.below == (0.25, 0.5, 0.5) and report.right_count == 0.5
    assert math.isclose(report.mean, 0.035, abs_tol=1e-6)
    assert '< 0.1 Å 0.500' in str(report) and 'n = 4' in str(report)
    assert math.isnan(hydrogen_report([None], [WATER]).mean)


def test_errors():
    for placed in ([], [WATER]):
        with pytest.raises(ValueError, match=r"'placed' and 'truth' must be as many molecules, at least one \(got"):
            hydrogen_report(placed, [WATER] * 2 * len(placed))
