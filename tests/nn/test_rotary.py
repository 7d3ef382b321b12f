import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn.rotary import rotary_frequencies, rotary_phases
from torch_geometric_inertial.ops import rope_rotate


def score(q, k, p, r, freqs):
    size = q.size(-1)
    turned = [rope_rotate(x, rotary_phases(pos, freqs.to(pos.dtype), size)) for x, pos in ((q, p), (k, r))]
    return (turned[0] * turned[1]).sum(-1)


@given(pairs=st.integers(1, 20), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('dtype, atol', [(torch.float32, 1e-5), (torch.float64, 1e-10)])
def test_the_score_depends_on_the_difference_of_positions_alone(dtype, atol, pairs, seed):
    g = torch.Generator().manual_seed(seed)
    q, k = (torch.nn.functional.normalize(torch.randn(5, 3, 2 * pairs, generator=g, dtype=dtype), dim=-1)
            for _ in range(2))
    # A grid of 2^-10 Å: sums of positions and shift are exact, so the law is of the rotation and not of rounding.
    p, r, shift = (torch.randint(-4096, 4096, (n, 3), generator=g).to(dtype) / 1024 for n in (5, 5, 1))
    freqs = rotary_frequencies(2 * pairs)
    torch.testing.assert_close(score(q, k, p + shift, r + shift, freqs), score(q, k, p, r, freqs), atol=atol, rtol=0)


@given(pairs=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_the_score_is_that_of_the_difference_and_the_origin(pairs, seed):
    g = torch.Generator().manual_seed(seed)
    q, k = (torch.randn(5, 3, 2 * pairs, generator=g, dtype=torch.float64) for _ in range(2))
    p, r = (torch.randn(5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    freqs = rotary_frequencies(2 * pairs)
    torch.testing.assert_close(score(q, k, p, r, freqs), score(q, k, p - r, torch.zeros_like(r), freqs))


def test_the_score_does_depend_on_the_difference():
    q = torch.ones(1, 1, 12)
    p, r = torch.tensor([[0.3, -0.2, 0.1]]), torch.zeros(1, 3)
    assert (score(q, q, p, r, rotary_frequencies(12)) - 12).abs() > 0.1


@pytest.mark.parametrize('size', [12, 32, 64, 128])
def test_the_band_resolves_bond_lengths_and_spans_a_molecule(size):
    freqs = rotary_frequencies(size).double()
    assert freqs.numel() == size // 6
    torch.testing.assert_close(freqs[[0, -1]], torch.tensor([2 * math.pi / 0.5, 2 * math.pi / 60]).double())
    ratio = freqs[1:] / freqs[:-1]
    torch.testing.assert_close(ratio, ratio[:1].expand_as(ratio))


@given(pairs=st.integers(1, 20), seed=st.integers(0, 10**6))
def test_rotation_keeps_the_norm_and_leaves_the_left_over_pairs(pairs, seed):
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(4, 2, 2 * pairs, generator=g, dtype=torch.float64)
    pos = 5 * torch.randn(4, 3, generator=g, dtype=torch.float64)
    turned = rope_rotate(x, rotary_phases(pos, rotary_frequencies(2 * pairs).double(), 2 * pairs))
    norm = x.unflatten(-1, (-1, 2)).norm(dim=-1)
    torch.testing.assert_close(turned.unflatten(-1, (-1, 2)).norm(dim=-1), norm)
    first = 6 * (2 * pairs // 6)  # three axes, a pair of features each
    assert torch.equal(turned[..., first:], x[..., first:])


def test_each_axis_turns_pairs_of_its_own():
    freqs = rotary_frequencies(14)
    for axis in range(3):
        phase = rotary_phases(torch.eye(3)[axis], freqs, 14)
        expected = torch.zeros(3, 2)
        expected[axis] = freqs
        torch.testing.assert_close(phase[:6], expected.flatten())
        assert phase[6] == 0
