"""Molecules grown from fragments."""
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.metrics import completion_report, contains

pytest.importorskip('rdkit')
METHANE = Data(z=torch.tensor([6, 1, 1, 1, 1]), pos=1.09 / 3**0.5 * torch.tensor(
    [[0., 0, 0], [1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]))
CARBON = Data(z=METHANE.z[:1], pos=METHANE.pos[:1])


def test_contains():
    shuffled = Data(z=METHANE.z.flip(0), pos=METHANE.pos.flip(0))
    assert contains(shuffled, METHANE) and contains(METHANE, CARBON) and not contains(CARBON, METHANE)
    moved = Data(z=METHANE.z, pos=METHANE.pos + torch.tensor([2e-3, 0, 0]))
    assert not contains(moved, CARBON) and contains(moved, CARBON, tolerance=3e-3)
    assert not contains(None, CARBON)
    assert not contains(METHANE, Data(z=torch.tensor([7]), pos=CARBON.pos))
    twice = Data(z=torch.tensor([6, 6]), pos=torch.zeros(2, 3))
    assert not contains(METHANE, twice)  # one atom does not stand for two


def test_report():
    far = Data(z=METHANE.z, pos=METHANE.pos + 1)
    report = completion_report([METHANE, METHANE, far, None], CARBON)
    assert (report.num_requested, report.containing, report.valid, report.unique) == (4, 0.5, 0.75, 1 / 3)
    assert report.valid_and_connected == 0.75 and report.grown == 0
    assert completion_report([METHANE], [Data(z=METHANE.z[1:2], pos=METHANE.pos[1:2])]).grown == 1
    assert 'containing 0.500' in str(report) and 'n = 4' in str(report)
    for molecules, fragments in (([], CARBON), ([METHANE], [CARBON] * 2)):
        with pytest.raises(ValueError, match=r"'molecules' must be at least one, and 'fragments' one or as many"):
            completion_report(molecules, fragments)
