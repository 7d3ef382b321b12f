import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.neighbors import neighbor_list, pairs_within


@settings(deadline=None, max_examples=40)
@given(lengths=st.lists(st.integers(0, 9), min_size=1, max_size=4), seed=st.integers(0, 10**6),
       cutoff=st.floats(0.1, 8.0))
def test_it_is_all_pairs_within_the_cutoff(lengths, seed, cutoff):
    ptr = torch.tensor([0, *lengths]).cumsum(0)
    pos = 2 * torch.randn(int(ptr[-1]), 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    batch = torch.repeat_interleave(ptr.diff())
    apart = (pos[:, None] - pos[None]).square().sum(-1)
    expected = ((apart <= cutoff ** 2) & (batch[:, None] == batch[None])).nonzero().T
    row, col = neighbor_list(pos, ptr, cutoff)
    assert torch.equal(torch.stack([row, col]), expected.view(2, -1))


@pytest.mark.parametrize('cutoff', [0.0, -1.0, float('inf'), float('nan')])
def test_bad_cutoff(cutoff):
    with pytest.raises(ValueError, match=r"'cutoff' must be positive and finite \(got"):
        neighbor_list(torch.zeros(1, 3), torch.tensor([0, 1]), cutoff)


def test_pairs_of_two_lists():
    g = torch.Generator().manual_seed(0)
    a, b = torch.randn(20, 3, generator=g), 2 * torch.randn(30, 3, generator=g)
    groups = torch.arange(20) // 10, torch.arange(30) // 15
    near = (torch.cdist(a, b) <= 1.3) & (groups[0][:, None] == groups[1][None])
    assert torch.equal(torch.stack(pairs_within(a, groups[0], b, groups[1], 1.3)), near.nonzero().T)
