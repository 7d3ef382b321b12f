import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.elements import COVALENT_RADII
from torch_geometric_inertial.nn.valence_features import ValenceFeatures, pauling_bond_orders
from torch_geometric_inertial.testing import random_rotation


def readout():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return ValenceFeatures(8, 4, 12, has_parent=True).double()


def cloud(seed, size=6):
    g = torch.Generator().manual_seed(seed)
    pos = 1.5 * torch.randn(2, size, 3, generator=g, dtype=torch.float64)
    return pos, torch.full((2, size), 0.76, dtype=torch.float64), torch.randint(4, (2, size), generator=g)


@pytest.mark.parametrize('length, order', [(1.54, 1), (1.34, 2), (1.20, 3)])
def test_the_length_of_a_carbon_bond_tells_its_order(length, order):
    pos = torch.tensor([[[0.0, 0, 0], [length, 0, 0], [9, 0, 0]]])
    found = pauling_bond_orders(pos, COVALENT_RADII[[6, 6, 6]].float()[None])[0]
    assert found[0, 1].item() == pytest.approx(order, abs=0.2)
    assert torch.equal(found, found.mT) and found[0, 0] == found[0, 2] == 0


def test_real_atoms_have_their_valence(qm9):
    total, expected = [], {1: 1, 6: 4, 7: 3, 8: 2}
    for data in qm9[1]:
        order = pauling_bond_orders(data.pos[None], COVALENT_RADII[data.z].float()[None])[0].sum(1)
        total.append(order - torch.tensor([expected[int(z)] for z in data.z]))
    assert torch.cat(total).abs().median() < 0.3


@given(seed=st.integers(0, 10**6), count=st.integers(0, 6))
def test_the_account_is_of_the_atoms_placed_so_far(seed, count):
    layer, (pos, radius, types) = readout(), cloud(seed)
    counts = torch.full((2, 1), count)
    before = layer(pos, radius, types, counts)
    pos[:, count:], types[:, count:] = 0.3, 1
    assert torch.equal(layer(pos, radius, types, counts), before)
    assert before[:, :, count:].abs().max() == 0 if count < 6 else bool(before.abs().max() > 0)


@given(seed=st.integers(0, 10**6))
def test_the_account_does_not_see_the_pose(seed):
    layer, (pos, radius, types) = readout(), cloud(seed)
    counts = torch.arange(7).expand(2, 7)
    moved = pos @ random_rotation(seed).T + 2
    torch.testing.assert_close(layer(moved, radius, types, counts), layer(pos, radius, types, counts))
