import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.training import RandomOrder
from torch_geometric_inertial.training.atom_order import random_orders, traverse_orders


def packed(sizes, seed=0):
    g = torch.Generator().manual_seed(seed)
    total = sum(sizes)
    return Data(z=torch.arange(1, total + 1), pos=2 * torch.randn(total, 3, generator=g),
                ptr=torch.tensor([0, *sizes]).cumsum(0))


@pytest.mark.parametrize('order', ['random', 'traverse'])
@given(sizes=st.lists(st.integers(1, 9), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_molecules_keep_their_atoms(order, sizes, seed):
    before = packed(sizes, seed)
    state = torch.get_rng_state()
    after, again = (RandomOrder(order, 1.0)(before.clone(), torch.Generator().manual_seed(seed)) for _ in range(2))
    assert torch.equal(after.z, again.z) and torch.equal(torch.get_rng_state(), state)
    for a, b in zip(before.ptr[:-1].tolist(), before.ptr[1:].tolist(), strict=True):
        assert sorted(after.z[a:b].tolist()) == before.z[a:b].tolist()
    assert torch.equal(after.pos, before.pos[after.z - 1])  # atom z was number z


@pytest.mark.parametrize('order', ['random', 'traverse'])
def test_bonds_and_charges_follow_the_atoms(order):
    chain = [Data(z=torch.arange(1, n + 1), pos=torch.randn(n, 3), formal_charge=torch.arange(1, n + 1),
                  edge_index=torch.tensor([range(n - 1), range(1, n)]), edge_attr=torch.arange(1, n))
             for n in (5, 8)]
    before = Batch.from_data_list(chain)
    after = RandomOrder(order, 1.0)(before, torch.Generator().manual_seed(3))
    assert not torch.equal(after.z, before.z)
    assert torch.equal(after.formal_charge, after.z)
    row, col = after.z[after.edge_index]
    assert torch.equal(col - row, torch.ones(11, dtype=torch.long))  # atom z is bonded to atom z + 1
    assert torch.equal(after.edge_attr, row)
    assert torch.equal(before.z, torch.cat([d.z for d in chain])) and torch.equal(before.edge_index[0, :4],
                                                                                  torch.arange(4))


def test_random_orders_are_even():
    perm = random_orders(torch.arange(0, 3 * 12_001, 3), torch.Generator().manual_seed(0)).view(-1, 3) % 3
    code, count = (perm * torch.tensor([9, 3, 1])).sum(1).unique(return_counts=True)
    assert code.numel() == 6 and (count / 12_000 - 1 / 6).abs().max() < 0.015


def test_a_traverse_draws_by_distance():
    """Three atoms on a line at 0, 1 and 1.3 Å, the probabilities of the definition by hand."""
    n = 30_000
    line = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [1.3, 0, 0]])
    perm = traverse_orders(line.repeat(n, 1), torch.arange(0, 3 * n + 1, 3), torch.Generator().manual_seed(0))
    perm = perm.view(n, 3) % 3
    assert (torch.bincount(perm[:, 0], minlength=3) / n - 1 / 3).abs().max() < 0.012
    from_first = perm[perm[:, 0] == 0, 1]
    expected = torch.softmax(-10 * torch.tensor([1.0, 1.3]), 0)  # nearest and mean are the same
    assert (from_first == 1).float().mean().item() == pytest.approx(expected[0].item(), abs=0.01)


def test_a_traverse_remembers_and_forgets():
    """Two atoms visited, 1 then 2, two left: the mean distance weighs the younger one more."""
    places = torch.tensor([[0.0, 0, 0], [1.0, 0, 0], [0.5, 0.9, 0], [1.4, 0.8, 0]])
    n = 60_000
    perm = traverse_orders(places.repeat(n, 1), torch.arange(0, 4 * n + 1, 4), torch.Generator().manual_seed(1))
    perm = perm.view(n, 4) % 4
    third = perm[(perm[:, 0] == 0) & (perm[:, 1] == 1), 2]
    distance = torch.cdist(places, places)
    weight = torch.tensor([0.9, 1.0]) / 1.9
    d = 0.8 * distance[2:, :2].amin(1) + 0.2 * (distance[2:, :2] * weight).sum(1)
    expected = torch.softmax(-10 * d, 0)[0].item()
    assert third.numel() > 2000
    assert (third == 2).float().mean().item() == pytest.approx(expected, abs=4 * (0.25 / third.numel())**0.5)


def test_some_molecules_stay_as_they_are():
    before = packed([8] * 600)
    after = RandomOrder('random', 0.25)(before.clone(), torch.Generator().manual_seed(0))
    same = (before.z == after.z).view(600, 8).all(1).float().mean().item()
    assert same == pytest.approx(0.75, abs=0.06)
    assert torch.equal(RandomOrder('traverse', 0.0)(before.clone()).z, before.z)


@pytest.mark.parametrize('arguments, message', [
    (('sorted', ), r"'order' must be 'random' or 'traverse' \(got 'sorted'\)"),
    (('random', 1.5), r"'probability' must be in \[0, 1\] \(got 1.5\)"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomOrder(*arguments)


def test_repr():
    assert repr(RandomOrder('traverse')) == "RandomOrder(order='traverse', probability=0.667)"
