r"""Confidence intervals."""
import pytest
import torch

from torch_geometric_inertial.metrics.figure import Figure, fraction, mean, median
from torch_geometric_inertial.metrics.intervals import mean_interval, ratio_interval, wilson_interval


def test_wilson():
    assert wilson_interval(0, 10) == pytest.approx((0, 0.2775), abs=1e-4)
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe, 1998
    assert wilson_interval(0, 0) is None


def test_the_ratio_of_equal_molecules_is_the_mean_of_their_shares():
    counts, totals = [4] * 20 + [3] * 20, [4] * 40
    low, high = ratio_interval(counts, totals)
    values = [a / n for a, n in zip(counts, totals, strict=True)]
    assert (low + high) / 2 == pytest.approx(0.875)
    assert (high - low) == pytest.approx((mean_interval(values)[1] - mean_interval(values)[0]) * (39 / 40)**0.5)
    assert ratio_interval([], []) is None


@pytest.mark.parametrize('make', [mean, median])
def test_intervals_hold_the_truth_in_95_percent(make):
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(400):
        low, high = make(torch.randn(60, generator=generator, dtype=torch.double).tolist(), 'Å', 'draws').interval
        hits += low <= 0 <= high
    assert 0.92 < hits / 400 < 0.99


def test_figures_of_nothing():
    assert fraction(0, 0).value is mean([], 'Å', 'x').value is median([], 'Å', 'x').value is None
    assert str(fraction(0, 0)).split() == ['–', '%', '–']
    assert median([3.0, 1.0, 2.0], 'Å', 'x').value == 2 and median([1.0, 2.0], 'Å', 'x').value == 1.5
    assert str(Figure(0.5, 'molecules', reference=0.25)).split() == ['50.00', '%', '25.00']
