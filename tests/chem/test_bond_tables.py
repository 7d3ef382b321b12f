import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.chem import bond_tables
from torch_geometric_inertial.chem.bond_tables import (
    allowed_valences,
    close_pairs,
    longest_bonds,
    table_bonds,
    valences,
)


def pair(a, b, length):
    pos = torch.tensor([[0.0, 0, 0], [0, 0, length]]).double()
    found = table_bonds(torch.tensor([a, b]), pos, torch.tensor([0, 2]))
    return int(found.order[0]) if found.order.numel() else 0


@pytest.mark.parametrize('a, b, length, order', [
    (6, 6, 1.63, 1), (6, 6, 1.65, 0),  # 154 + 10 pm
    (6, 6, 1.38, 2), (6, 6, 1.40, 1),  # 134 + 5
    (6, 6, 1.22, 3), (6, 6, 1.24, 2),  # 120 + 3
    (6, 7, 1.18, 3), (7, 6, 1.20, 2), (7, 7, 1.12, 3), (8, 6, 1.15, 3), (8, 8, 1.25, 2), (8, 8, 1.0, 2),
    (1, 1, 0.83, 1), (1, 1, 0.85, 0), (1, 6, 0.5, 1), (1, 9, 1.0, 1), (9, 9, 1.5, 1),
    (6, 16, 1.64, 2), (16, 6, 1.64, 2),  # stands in the tables once
    (1, 1, 0.39, 0),  # coincident
    (2, 2, 0.8, 0), (0, 6, 1.0, 0),
])
def test_orders_by_hand(a, b, length, order):
    assert pair(a, b, length) == order


def test_tables_are_symmetric():
    assert torch.equal(longest_bonds(), longest_bonds().transpose(1, 2))


def test_allowed_valences():
    allowed = {z: allowed_valences()[z].nonzero().flatten().tolist() for z in (1, 6, 7, 8, 9, 15, 16, 2)}
    assert allowed == {1: [1], 6: [4], 7: [3], 8: [2], 9: [1], 15: [3, 5], 16: [4], 2: []}


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 6), max_size=6), at_once=st.integers(1, 40), seed=st.integers(0, 99))
def test_close_pairs_are_all_pairs_of_each_molecule(lengths, at_once, seed):
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    pos = torch.rand(int(ptr[-1]), 3, generator=torch.Generator().manual_seed(seed)).double()
    expected = [(u, v) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)
                for u in range(a, b) for v in range(u + 1, b) if math.dist(pos[u].tolist(), pos[v].tolist()) < 0.5]
    whole, bond_tables._PAIRS_AT_ONCE = bond_tables._PAIRS_AT_ONCE, at_once
    try:
        found = close_pairs(pos, ptr, 0.5)
    finally:
        bond_tables._PAIRS_AT_ONCE = whole
    assert [tuple(ends) for ends in found.ends.t().tolist()] == expected
    torch.testing.assert_close(found.distance, (pos[found.ends[0]] - pos[found.ends[1]]).norm(dim=1))


def test_no_bond_where_a_position_is_not_finite():
    pos = torch.tensor([[0.0, 0, 0], [float('nan'), 0, 0], [0, 0, 0.74], [float('inf'), 0, 0]]).double()
    bonds = table_bonds(torch.ones(4, dtype=torch.long), pos, torch.tensor([0, 4]))
    assert bonds.ends.tolist() == [[0], [2]]
    assert valences(bonds, 4).tolist() == [1, 0, 1, 0]
