r"""Distributions of bond lengths, angles, torsions and rings."""
import pytest
import torch
from helpers.embedded import embedded
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.metrics.histograms import geometry_histograms, jensen_shannon, wasserstein

pytest.importorskip('rdkit')
histograms = st.dictionaries(st.integers(0, 30), st.integers(1, 9), min_size=1, max_size=8)


@given(histograms, histograms, st.integers(2, 5))
def test_distances_are_distances(a, b, times):
    assert jensen_shannon(a, b) == pytest.approx(jensen_shannon(b, a)) and 0 <= jensen_shannon(a, b) <= 1 + 1e-12
    assert wasserstein(a, b) == pytest.approx(wasserstein(b, a))
    more = {i: times * n for i, n in a.items()}
    assert jensen_shannon(a, more) == pytest.approx(0, abs=1e-12) and wasserstein(a, more) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(a=histograms, b=histograms, by=st.integers(1, 20))
def test_against_scipy(a, b, by):
    stats = pytest.importorskip('scipy.stats')
    spatial = pytest.importorskip('scipy.spatial.distance')
    expected = stats.wasserstein_distance(list(a), list(b), list(a.values()), list(b.values()))
    assert wasserstein(a, b) == pytest.approx(expected)
    bins = sorted(a.keys() | b.keys())
    root = spatial.jensenshannon([a.get(i, 0) for i in bins], [b.get(i, 0) for i in bins], base=2)
    assert jensen_shannon(a, b) == pytest.approx(root**2, abs=1e-9)
    assert wasserstein(a, {i + by: n for i, n in a.items()}) == pytest.approx(by)


def test_by_hand():
    """A square of four carbons with one out of the plane: four bonds of 1 Å, and their angles."""
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]).double()
    ends = torch.tensor([[0, 1, 2], [1, 2, 3]])
    found = geometry_histograms(torch.full((4, ), 6), pos, ends, torch.tensor([1, 2, 1]))
    assert found['bond_lengths'] == {'C-C': {100: 2}, 'C=C': {100: 1}}
    assert found['bond_angles'] == {'C-C-C': {90: 2}}
    assert found['torsions'] == {'C-C-C-C': {0: 1}}
    pos[3] = torch.tensor([1.0, 1, 1])
    found = geometry_histograms(torch.tensor([7, 6, 6, 8]), pos, ends, torch.tensor([1, 1, 2]))
    assert found['torsions'] == {'N-C-C-O': {18: 1}} and found['bond_lengths'] == {
        'C-N': {100: 1}, 'C-C': {100: 1}, 'C=O': {100: 1}}
    assert found['bond_angles'] == {'C-C-N': {90: 1}, 'C-C-O': {90: 1}}


def test_straight_angles_have_no_torsion():
    from torch_geometric_inertial.metrics.evaluate import judge
    from torch_geometric_inertial.metrics.protocol import get_protocol

    found = judge([embedded('CC#CC')], get_protocol('geometry')).distributions
    assert found['torsions'] == {} and found['ring_sizes'] == {}
    assert sum(found['bond_angles']['C-C-C'].values()) == 2
    rings = judge([embedded('C1CC1c1ccccc1')], get_protocol('geometry')).distributions['ring_sizes']
    assert rings == {'ring': {3: 1, 6: 1}}


def test_stretched_molecules_are_as_far_as_they_were_stretched():
    molecules = list(QM9Sample()[::50])
    longer = []
    for data in molecules:
        data = data.clone()
        data.pos = 1.1 * data.pos
        longer.append(data)
    same, far = (evaluate(some, 'geometry', reference=molecules) for some in (molecules, longer))
    assert same.bond_lengths_js == same.bond_angles_wasserstein == same.size_distance == 0
    assert far.bond_lengths_wasserstein == pytest.approx(0.1 * 1.2, abs=0.02)  # a bond is 1.2 Å on average
    assert far.bond_angles_wasserstein < 0.6 and far.bond_lengths_js > 0.5 and far.bond_lengths_types == 0
    floor = same.figures['bond_lengths_wasserstein'].reference
    assert 0 < floor < 0.02
