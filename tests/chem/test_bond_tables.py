
import pytest
import torch

from torch_geometric_inertial.chem.bond_tables import (
    allowed_valences,
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


def test_no_bond_where_a_position_is_not_finite():
    pos = torch.tensor([[0.0, 0, 0], [float('nan'), 0, 0], [0, 0, 0.74], [float('inf'), 0, 0]]).double()
    bonds = table_bonds(torch.ones(4, dtype=torch.long), pos, torch.tensor([0, 4]))
    assert bonds.ends.tolist() == [[0], [2]]
    assert valences(bonds, 4).tolist() == [1, 0, 1, 0]
