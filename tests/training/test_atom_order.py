import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.training import RandomOrder
from torch_geometric_inertial.training.atom_order import JUMP, random_orders, traverse_orders, walk_orders
from torch_geometric_inertial.transforms import canonical


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


def chain(*bonds, z):
    u, v = torch.tensor(bonds).T
    return torch.tensor(z), torch.stack([torch.cat([u, v]), torch.cat([v, u])])


def test_a_walk_is_an_order_that_a_model_with_bonds_reads():
    from torch_geometric_inertial.models.bonded_tokenization import read_molecules
    from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of
    batch = canonical()(Batch.from_data_list(list(QM9Sample()[:60])))
    walked = RandomOrder('walk', 1.0)(batch, torch.Generator().manual_seed(0))
    assert walked.walked.all() and not torch.equal(walked.z, batch.z)
    vocabulary = AtomVocabulary(atom_types_of(batch))
    before, after = (read_molecules(b, vocabulary, 30, 4)[0] for b in (batch, walked))
    assert torch.equal(before.graph.size, after.graph.size)
    for a, b in ((before.graph.types, after.graph.types), (before.is_hydrogen, after.is_hydrogen)):
        assert torch.equal(a.sort(dim=1).values, b.sort(dim=1).values)
    assert 'walked' not in batch


def test_a_walk_goes_depth_first_but_for_its_jumps():
    """Atom 0 between the chains 1, 2 and 3, 4: from 0 to 1, depth first goes on to 2, a jump to 2 or 3."""
    z, edge = chain((0, 1), (1, 2), (0, 3), (3, 4), z=[6] * 5)
    n = 30_000
    edges = torch.cat([edge + 5 * i for i in range(n)], dim=1)
    perm = walk_orders(z.repeat(n), edges, torch.arange(0, 5 * n + 1, 5), torch.Generator().manual_seed(0)) % 5
    perm = perm.view(n, 5)
    assert (torch.bincount(perm[:, 0], minlength=5) / n - 1 / 5).abs().max() < 0.012  # any atom may be the first
    begun = perm[(perm[:, 0] == 0) & (perm[:, 1] == 1)]
    assert (begun[:, 2] == 2).float().mean().item() == pytest.approx(1 - JUMP / 2, abs=0.02)
    neighbors = {(int(a), int(b)) for a, b in edge.T}
    assert all(any((a, b) in neighbors for a in row[:i]) for row in perm[:200].tolist() for i, b in enumerate(row) if i)


def test_hydrogens_follow_a_walk_by_their_atoms():
    z, edge = chain((0, 1), (0, 2), (1, 3), (1, 4), z=[8, 6, 1, 1, 1])
    for seed in range(8):
        perm = walk_orders(z, edge, torch.tensor([0, 5]), torch.Generator().manual_seed(seed)).tolist()
        assert perm in ([0, 1, 2, 3, 4], [1, 0, 3, 4, 2])


def test_some_molecules_stay_as_they_are():
    before = packed([8] * 600)
    after = RandomOrder('random', 0.25)(before.clone(), torch.Generator().manual_seed(0))
    same = (before.z == after.z).view(600, 8).all(1).float().mean().item()
    assert same == pytest.approx(0.75, abs=0.06)
    assert torch.equal(RandomOrder('traverse', 0.0)(before.clone()).z, before.z)


@pytest.mark.parametrize('arguments, message', [
    (('sorted', ), r"'order' must be 'random', 'traverse' or 'walk' \(got 'sorted'\)"),
    (('random', 1.5), r"'probability' must be in \[0, 1\] \(got 1.5\)"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        RandomOrder(*arguments)


def test_a_walk_needs_bonds():
    with pytest.raises(ValueError, match=r"order 'walk' needs bonds in 'edge_index' \(got Data"):
        RandomOrder('walk')(packed([4]))


def test_repr():
    assert repr(RandomOrder('traverse')) == "RandomOrder(order='traverse', probability=0.667)"
