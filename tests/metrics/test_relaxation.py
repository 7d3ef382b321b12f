import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.datasets import read_relaxations
from torch_geometric_inertial.metrics import average_distance_within_threshold, energy_within_threshold
from torch_geometric_inertial.metrics.relaxation import DISTANCE_THRESHOLDS

CELL = torch.diag(torch.tensor([4.0, 6.0, 20.0], dtype=torch.float64)).expand(2, 3, 3)
PBC = torch.ones(2, 3, dtype=torch.bool)
BATCH = torch.tensor([0, 0, 1])


def test_thresholds_are_those_of_the_definition():
    np.testing.assert_allclose(DISTANCE_THRESHOLDS, np.arange(0.01, 0.5, 0.001), rtol=0, atol=1e-12)
    assert len(DISTANCE_THRESHOLDS) == 490


def test_energies_by_hand():
    target = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)
    report = energy_within_threshold(target + torch.tensor([0.0, 0.019, -0.021, 1.0], dtype=torch.float64), target)
    assert (report.within, report.num_within, report.num_systems) == (0.5, 2, 4)
    assert report.mae == pytest.approx(0.26)
    assert str(report) == 'energy MAE 0.2600 eV, EwT 50.00 % (2 of 4)'
    threshold = energy_within_threshold(torch.tensor([0.02], dtype=torch.float64), torch.zeros(1))
    assert threshold.num_within == 0  # less than, not at most


def test_predictions_that_are_not_finite_are_misses():
    report = energy_within_threshold(torch.tensor([float('nan'), 0.0]), torch.zeros(2))
    assert (report.within, report.mae) == (0.5, float('inf'))
    pos = torch.zeros(3, 3)
    report = average_distance_within_threshold(torch.full((3, 3), float('nan')), pos, BATCH, CELL, PBC)
    assert report.within == 0 and report.distance == (float('inf'), float('inf'))


def test_distances_by_hand():
    target = torch.zeros(3, 3, dtype=torch.float64)
    pred = torch.tensor([[0.0, 0.0, 0.2], [0.0, 0.0, 0.0], [0.3, 0.4, 0.0]], dtype=torch.float64)
    report = average_distance_within_threshold(pred, target, BATCH, CELL, PBC)
    assert report.distance == pytest.approx([0.1, 0.5])  # of the atoms, not of the components
    # 0.1 is below 0.101 ... 0.499, 399 thresholds; 0.5 is below none
    assert report.within == pytest.approx(399 / 490 / 2)
    assert report.curve[89:92] == (0.0, 0.0, 0.5) and report.curve[-1] == 0.5
    assert (report.num_systems, report.num_atoms) == (2, 3) and report.mean == pytest.approx(0.3)
    assert str(report) == 'ADwT 40.71 %, mean distance 0.3000 Å (2 systems, 3 atoms)'


def test_exact_structures_are_within_every_threshold():
    pos = torch.randn(3, 3)
    report = average_distance_within_threshold(pos, pos, BATCH, CELL, PBC)
    assert report.within == 1 and set(report.curve) == {1.0}


def test_distances_wrap_around():
    target = torch.tensor([[0.05, 0.0, 0.0], [2.0, 5.9, 0.0], [0.0, 0.0, 0.1]], dtype=torch.float64)
    pred = torch.tensor([[3.95, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 0.0, 19.9]], dtype=torch.float64)
    report = average_distance_within_threshold(pred, target, BATCH, CELL, PBC)
    assert report.distance == pytest.approx([0.1, 0.2])
    pbc = torch.tensor([[True, True, True], [True, True, False]])
    assert average_distance_within_threshold(pred, target, BATCH, CELL, pbc).distance == pytest.approx([0.1, 19.8])


def test_distances_wrap_in_a_skewed_cell():
    cell = torch.tensor([[[4.0, 0.0, 0.0], [1.0, 6.0, 0.0], [0.5, 0.3, 9.0]]], dtype=torch.float64)
    target = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    offset = torch.tensor([[0.1, 0.0, 0.0]], dtype=torch.float64)
    shift = torch.tensor([[1, 0, 2], [0, -1, 0], [3, 1, 1], [0, 0, 0], [-1, -1, -1]]).double()
    pred = target + offset + shift @ cell[0]
    report = average_distance_within_threshold(pred, target, torch.zeros(5, dtype=torch.long), cell, PBC[:1])
    assert report.distance == pytest.approx([0.1])


def test_fixed_atoms_do_not_count():
    target, fixed = torch.zeros(3, 3), torch.tensor([True, False, False])
    pred = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.2, 0.0], [0.0, 0.0, 0.3]])
    report = average_distance_within_threshold(pred, target, BATCH, CELL, PBC, fixed=fixed)
    assert report.distance == pytest.approx([0.2, 0.3]) and report.num_atoms == 2


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_the_measure_knows_neither_images_nor_order_of_systems(seed):
    g = torch.Generator().manual_seed(seed)
    cell = 6 * torch.eye(3, dtype=torch.float64) + torch.rand(4, 3, 3, generator=g, dtype=torch.float64)
    pbc, batch = torch.ones(4, 3, dtype=torch.bool), torch.tensor([0, 0, 1, 2, 2, 2, 3])
    target = 3 * torch.randn(7, 3, generator=g, dtype=torch.float64)
    pred = target + 0.2 * torch.randn(7, 3, generator=g, dtype=torch.float64)
    report = average_distance_within_threshold(pred, target, batch, cell, pbc)
    shift = torch.randint(-2, 3, (7, 3), generator=g).double()
    moved = average_distance_within_threshold(pred + (shift.unsqueeze(1) @ cell[batch]).squeeze(1), target, batch, cell,
                                              pbc)
    assert moved.distance == pytest.approx(report.distance, abs=1e-9)
    back = average_distance_within_threshold(pred.flip(0), target.flip(0), 3 - batch.flip(0), cell.flip(0), pbc)
    assert back.distance == pytest.approx(report.distance[::-1]) and back.within == pytest.approx(report.within)
    assert list(report.curve) == sorted(report.curve)  # a wider threshold leaves nobody out


def by_the_definition(pred, target, sizes, cells):
    """Loops over systems and thresholds, with NumPy."""
    start, means = 0, []
    for size, cell in zip(sizes, cells, strict=True):
        fraction = (pred - target)[start:start + size] @ np.linalg.inv(cell)
        fraction = fraction - np.floor(fraction)
        fraction[fraction > 0.5] -= 1
        means.append(np.sqrt(((fraction @ cell)**2).sum(1)).mean())
        start += size
    return float(np.mean([np.mean(np.array(means) < t) for t in np.arange(0.01, 0.5, 0.001)]))


def test_initial_structures_of_real_relaxations(shared_data):
    systems = read_relaxations(shared_data / 'oc20_debug_traj' / 'oc20_30.npz')
    pos, relaxed, fixed, cell, pbc = (torch.cat([s[name] for s in systems])
                                      for name in ('pos', 'pos_relaxed', 'fixed', 'cell', 'pbc'))
    batch = torch.repeat_interleave(torch.tensor([s.num_nodes for s in systems]))
    report = average_distance_within_threshold(pos, relaxed, batch, cell, pbc, fixed=fixed)
    expected = by_the_definition(pos[~fixed].double().numpy(), relaxed[~fixed].double().numpy(),
                                 [int((~s.fixed).sum()) for s in systems], cell.double().numpy())
    assert report.within == pytest.approx(expected, abs=1e-12) and 0 < report.within < 1


@pytest.mark.parametrize('pred, target, message', [
    (torch.zeros(3), torch.zeros(2), r"'pred' and 'target' must be of one shape \[B\], B ≥ 1 \(got \[3\] and \[2\]\)"),
    (torch.zeros(0), torch.zeros(0), r"of one shape \[B\], B ≥ 1 \(got \[0\] and \[0\]\)"),
    (torch.zeros(1), torch.tensor([float('nan')]), r"'target' must be finite \(got 1 entries that are not\)"),
])
def test_bad_energies(pred, target, message):
    with pytest.raises(ValueError, match=message):
        energy_within_threshold(pred, target)


@pytest.mark.parametrize('change, message', [
    (dict(pred=torch.zeros(2, 3)), r"'pred' and 'target' must be of one shape \[N, 3\] \(got \[2, 3\] and \[3, 3\]\)"),
    (dict(target=torch.full((3, 3), float('inf'))), r"'target' must be finite \(got 9 entries that are not\)"),
    (dict(batch=BATCH[:2]), r"'batch' must be \[3\] \(got \[2\]\)"),
    (dict(batch=BATCH.flip(0)), "'batch' must not decrease"),
    (dict(batch=torch.zeros(3, dtype=torch.long)), r"each of 2 systems an atom that counts \(got \[3, 0\]\)"),
    (dict(batch=torch.tensor([0, 1, 2])), r"each of 2 systems an atom that counts \(got \[1, 1, 1\]\)"),
    (dict(fixed=torch.tensor([0, 0, 1])), r"'fixed' must be bool \[3\] \(got torch.int64 \[3\]\)"),
    (dict(fixed=torch.tensor([False, False, True])), r"each of 2 systems an atom that counts \(got \[2, 0\]\)"),
    (dict(cell=CELL[0]), r"'cell' must be \[B, 3, 3\]|must give each of 3 systems"),
])
def test_bad_structures(change, message):
    arguments = dict(pred=torch.zeros(3, 3), target=torch.zeros(3, 3), batch=BATCH, cell=CELL, pbc=PBC)
    with pytest.raises(ValueError, match=message):
        average_distance_within_threshold(**arguments | change)
