import math

import torch
from helpers.molecules_by_hand import BY_HAND, WATER
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import frame_drift
from torch_geometric_inertial.transforms import InertialFrame


def test_a_canonical_molecule_does_not_drift():
    molecules = [InertialFrame()(data.clone()) for data in QM9Sample()[:50]]
    assert frame_drift(molecules).max() < 1e-3


def test_a_shift_is_its_own_length():
    canonical = InertialFrame()(WATER.clone())
    moved = Data(z=canonical.z, pos=canonical.pos + torch.tensor([0.0, 3.0, 4.0]))
    assert math.isclose(frame_drift([canonical, moved])[1], 5.0, abs_tol=1e-6)


def test_failures_have_none():
    drift = frame_drift([BY_HAND[name][0] for name in ('not finite', 'missing', 'empty', 'unfinished', 'coincident')])
    assert drift.isnan().all()
    assert frame_drift([]).shape == (0,)
