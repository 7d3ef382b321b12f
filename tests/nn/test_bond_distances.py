import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.nn.bond_distances import (
    FAR,
    bond_distances,
    grow_distances,
    last_partner,
    prefix_distances,
)


@st.composite
def connected_graphs(draw):
    num = draw(st.integers(1, 12))
    order = torch.zeros(num, num, dtype=torch.long)
    for i in range(1, num):
        partners = {draw(st.integers(0, i - 1)), *draw(st.lists(st.integers(0, i - 1), max_size=2))}
        for j in partners:
            order[i, j] = order[j, i] = draw(st.integers(1, 3))
    return order


def breadth_first(order, start):
    distance, frontier, step = {start: 0}, [start], 0
    while frontier:
        step += 1
        frontier = [j for i in frontier for j in order[i].nonzero().flatten().tolist() if j not in distance]
        for j in frontier:
            distance.setdefault(j, step)
    return torch.tensor([min(distance.get(j, FAR), FAR) for j in range(len(order))])


@given(connected_graphs())
@settings(max_examples=60, deadline=None)
def test_distances_are_those_of_a_breadth_first_search(order):
    expected = torch.stack([breadth_first(order, i) for i in range(len(order))])
    assert torch.equal(bond_distances(order[None])[0], expected)


@given(connected_graphs())
@settings(max_examples=60, deadline=None)
def test_prefixes_are_graphs_of_their_own(order):
    ways, parent = prefix_distances(order[None]), last_partner(order[None])[0]
    for s in range(len(order)):
        assert torch.equal(ways.own[0, s, :s + 1], bond_distances(order[None, :s + 1, :s + 1])[0, s])
        if s > 0:
            before = bond_distances(order[None, :s, :s])[0]
            assert torch.equal(ways.parent[0, s, :s], before[parent[s]])


def test_a_ring_shortens_ways():
    chain = bond_distances(torch.diag(torch.ones(4, dtype=torch.long), 1)[None] +
                           torch.diag(torch.ones(4, dtype=torch.long), -1)[None])
    row, between = grow_distances(chain, torch.tensor([[1, 0, 0, 0, 1]]))
    assert row.tolist() == [[1, 2, 3, 2, 1]]
    assert between[0, 0].tolist() == [0, 1, 2, 3, 2]


def test_last_partner_of_the_first_atom_is_none():
    order = torch.tensor([[[0, 1, 1], [1, 0, 2], [1, 2, 0]]])
    assert last_partner(order).tolist() == [[-1, 0, 1]]
    assert last_partner(order[:, :0, :0]).shape == (1, 0)
