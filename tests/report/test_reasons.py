r"""Why molecules failed."""
import pytest

from torch_geometric_inertial.metrics import STATUSES
from torch_geometric_inertial.report.reasons import Graph, hill_formula, reason

WATER = Graph([8, 1, 1], [[0, 0, 0], [.96, 0, 0], [-.24, .93, 0]], [(0, 1, 1), (0, 2, 1)], [0, 0, 0])


@pytest.mark.parametrize('graph, status, text, atoms', [
    (WATER, 'ok', 'none of these', []),
    (WATER, 'clash', STATUSES['clash'], []),
    (WATER, 'valence', STATUSES['valence'], []),
    (WATER, 'disconnected', STATUSES['disconnected'], []),
    (WATER._replace(charges=[1, 0, 0]), 'valence', 'O1, charge +1, has valence 2 instead of 3', [0]),
    (WATER._replace(bonds=[(0, 1, 2), (0, 2, 2)]), 'valence', 'O1, charge 0, has valence 4 instead of 2, and 2 more',
     [0, 1, 2]),
    (WATER._replace(pos=[[0, 0, 0], [.96, 0, 0], [.9, .3, 0]]), 'clash',
     'H2 and H3 are 0.31 Å apart (no bond between them)', [1, 2]),
    (WATER._replace(pos=[[0, 0, 0], [.5, 0, 0], [-2, .9, 0]]), 'clash', 'O1 and H2 are 0.50 Å apart (bonded)', [0, 1]),
    (WATER._replace(pos=[[0, 0, 0], [3, 0, 0], [-.24, .93, 0]]), 'disconnected',
     'the bond of O1 and H2 is 3.00 Å long', [0, 1]),
    (WATER._replace(bonds=[(0, 1, 1)]), 'disconnected', '2 pieces: HO + H', [2]),
])
def test_reasons(graph, status, text, atoms):
    assert reason(graph, status) == (text, atoms)


def test_formulas():
    assert hill_formula([6, 1, 1, 1, 1]) == 'CH4' and hill_formula([1, 8, 1]) == 'H2O'
    assert hill_formula([17, 6, 1, 35]) == 'CHBrCl'
