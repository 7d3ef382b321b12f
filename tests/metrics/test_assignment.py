"""The cheapest assignment."""
import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.metrics.assignment import assign


@given(n=st.integers(0, 6), seed=st.integers(0, 10**6), whole=st.booleans())
def test_no_permutation_is_cheaper(n, seed, whole):
    cost = torch.randn(n, n, generator=torch.Generator().manual_seed(seed)).double()
    cost = (3 * cost).round() if whole else cost  # with ties
    columns = assign(cost.tolist())
    assert sorted(columns) == list(range(n))
    best = min(sum(float(cost[i, j]) for i, j in enumerate(perm)) for perm in itertools.permutations(range(n)))
    assert abs(sum(float(cost[i, j]) for i, j in enumerate(columns)) - best) < 1e-9


@pytest.mark.parametrize('cost', [[[1.0, 2.0]], [[float('nan')]]])
def test_errors(cost):
    with pytest.raises(ValueError, match="'cost' must be a square matrix of finite numbers"):
        assign(cost)
