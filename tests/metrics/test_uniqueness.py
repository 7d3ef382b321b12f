import pytest
from hypothesis import given
from hypothesis import strategies as st
from molecules_by_hand import CO2, WATER

from torch_geometric_inertial.metrics import novelty, reference_smiles, uniqueness

smiles = st.lists(st.sampled_from(['C', 'N', 'O', 'CC', None]))


@given(smiles=smiles, order=st.randoms())
def test_order_does_not_matter(smiles, order):
    shuffled = list(smiles)
    order.shuffle(shuffled)
    assert uniqueness(smiles) == uniqueness(shuffled)
    assert novelty(smiles, ['C']) == novelty(shuffled, ['C'])


def test_by_hand():
    assert uniqueness(['C', 'C', None, 'N', 'C']) == 2 / 4
    assert novelty(['C', 'C', None, 'N', 'O'], ['C', 'CC']) == 2 / 3
    assert uniqueness([]) == uniqueness([None]) == novelty([None], []) == 0


def test_reference():
    pytest.importorskip('rdkit')
    assert reference_smiles([WATER, CO2, WATER, None]) == {'[H]O[H]', 'O=C=O'}
    assert reference_smiles({'C'}) == {'C'}
