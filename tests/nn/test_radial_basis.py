import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_geometric_inertial.nn import GaussianBasis
from torch_geometric_inertial.nn.directions import directions, safe_length
from torch_geometric_inertial.nn.radial_basis import cosine_cutoff, smooth_cutoff


@pytest.mark.parametrize('function, order', [(smooth_cutoff, 2), (cosine_cutoff, 1)])
def test_cutoffs_fall_from_one_to_zero_and_leave_smoothly(function, order):
    r = torch.linspace(0, 4, 401, dtype=torch.float64)
    y = function(r, 3.0)
    assert y[0] == 1 and (y.diff() <= 0).all() and (y >= 0).all() and (y[r >= 3] == 0).all()
    edge = torch.tensor(3.0 - 1e-6, dtype=torch.float64, requires_grad=True)
    slope = function(edge, 3.0)
    for _ in range(order):
        slope, = torch.autograd.grad(slope, edge, create_graph=True)
        assert abs(float(slope.detach())) < 1e-4


@given(close=st.floats(1e-9, 1e-4))
def test_the_logarithm_of_the_smooth_cutoff_exists_up_to_the_end(close):
    r = torch.tensor(3.0 * (1 - close), dtype=torch.float64, requires_grad=True)
    log = smooth_cutoff(r, 3.0).log()
    slope, = torch.autograd.grad(log, r)
    assert float(slope) == pytest.approx(-1 / close, rel=0.01)  # three powers over a length of 3


@pytest.mark.parametrize('radial', ['linear', 'log'])
def test_gaussians_cover_the_range_and_know_the_type(radial):
    basis = GaussianBasis(2, 16, (0.1, 6.0), radial)
    r, types = torch.linspace(0.1, 6, 50), torch.zeros(50, dtype=torch.long)
    out = basis(r, types)
    assert out.shape == (50, 16) and out.max(1).values.min() > 0.85
    with torch.no_grad():
        basis.stretch[1], basis.shift[1] = 0.5, 0.2
    assert (basis(r, types + 1) - out).abs().max() > 0.1
    torch.testing.assert_close(basis(r, types), out)


@pytest.mark.parametrize('softening', [0.0, 0.3])
def test_lengths_and_directions_have_derivatives(softening):
    x = torch.tensor([[0.3, -1.0, 2.0], [0.0, 0.5, 0.0]], dtype=torch.float64, requires_grad=True)
    for function in (safe_length, directions):
        assert gradcheck(lambda x, f=function: f(x, softening), x)
        assert gradgradcheck(lambda x, f=function: f(x, softening), x)
        zero = torch.zeros(1, 3, dtype=torch.float64, requires_grad=True)
        first, = torch.autograd.grad(function(zero, softening).sum(), zero, create_graph=True)
        second, = torch.autograd.grad(first.sum(), zero, allow_unused=True)
        assert first.isfinite().all() and (second is None or second.isfinite().all())
    expected = x.detach() / (x.detach().square().sum(1, keepdim=True) + softening ** 2).sqrt()
    torch.testing.assert_close(directions(x, softening), expected)
