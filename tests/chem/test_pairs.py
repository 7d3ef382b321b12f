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


def test_large_molecules_and_positions_that_are_no_numbers():
    generator = torch.Generator().manual_seed(0)
    sizes = torch.tensor([0, 5, 127, 128, 129, 300])
    ptr = sizes.cumsum(0)
    pos = 8 * torch.rand(int(ptr[-1]), 3, generator=generator).double() + 1e4
    pos[3, 0], pos[200, 1], pos[400, 2] = float('nan'), float('inf'), -float('inf')
    near = torch.cdist(pos, pos, compute_mode='donot_use_mm_for_euclid_dist') < 1.5
    molecule = torch.searchsorted(ptr, torch.arange(len(pos)), right=True)
    expected = (near & (molecule.unsqueeze(1) == molecule)).triu(1).nonzero().t()
    whole, pairs._PAIRS_AT_ONCE = pairs._PAIRS_AT_ONCE, 10_000
    try:
        sliced = close_pairs(pos, ptr, 1.5).ends
    finally:
        pairs._PAIRS_AT_ONCE = whole
    assert torch.equal(sliced, expected) and torch.equal(close_pairs(pos, ptr, 1.5).ends, expected)
    assert not torch.isin(torch.tensor([3, 200, 400]), expected).any()
