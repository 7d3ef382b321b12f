import math

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.chem import pairs
from torch_geometric_inertial.chem.pairs import close_pairs


@settings(deadline=None)
@given(lengths=st.lists(st.integers(0, 6), max_size=6), at_once=st.integers(1, 40), seed=st.integers(0, 99))
def test_close_pairs_are_all_pairs_of_each_molecule(lengths, at_once, seed):
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    pos = torch.rand(int(ptr[-1]), 3, generator=torch.Generator().manual_seed(seed)).double()
    expected = [(u, v) for a, b in zip(ptr[:-1].tolist(), ptr[1:].tolist(), strict=True)
                for u in range(a, b) for v in range(u + 1, b) if math.dist(pos[u].tolist(), pos[v].tolist()) < 0.5]
    whole, pairs._PAIRS_AT_ONCE = pairs._PAIRS_AT_ONCE, at_once
    try:
        found = close_pairs(pos, ptr, 0.5)
    finally:
        pairs._PAIRS_AT_ONCE = whole
    assert [tuple(ends) for ends in found.ends.t().tolist()] == expected
    torch.testing.assert_close(found.distance, (pos[found.ends[0]] - pos[found.ends[1]]).norm(dim=1))
