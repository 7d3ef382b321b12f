import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.autograd import gradcheck, gradgradcheck

from torch_geometric_inertial.nn import EquivariantLayerNorm
from torch_geometric_inertial.testing import random_rotation

CHANNELS = 5


def norm(**kwargs):
    layer = EquivariantLayerNorm(CHANNELS, **kwargs).double()
    if layer.kind != 'none':
        torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
    return layer


def features(rank, seed=0, count=1):
    """Vectors [N, 3, d] that span so many dimensions."""
    g = torch.Generator().manual_seed(seed)
    basis = random_rotation(seed)[:, :rank]
    return basis @ torch.randn(count, rank, CHANNELS, generator=g, dtype=torch.float64)


@given(rank=st.integers(0, 3), seed=st.integers(0, 10**6), mirror=st.booleans())
@pytest.mark.parametrize('kind', ['whiten', 'rms', 'none'])
def test_it_turns_with_its_input(kind, rank, seed, mirror):
    layer, x = norm(kind=kind), features(rank, seed, 4)
    turn = random_rotation(seed + 1) * (-1 if mirror else 1)
    torch.testing.assert_close(layer(turn @ x), turn @ layer(x), atol=1e-10, rtol=1e-10)


@given(seed=st.integers(0, 10**6), scale=st.sampled_from([1e-2, 1.0, 1e3]))
def test_it_whitens(seed, scale):
    layer = EquivariantLayerNorm(64, eps_rel=1e-9, eps_abs=1e-12).double()
    g = torch.Generator().manual_seed(seed)
    drawn = torch.randn(2, 3, 3, generator=g, dtype=torch.float64)
    stretched = drawn / torch.linalg.matrix_norm(drawn, ord=2, keepdim=True) + 1.5 * torch.eye(3)  # within 0.5 … 2.5
    x = layer(scale * stretched @ torch.randn(2, 3, 64, generator=g, dtype=torch.float64) + 7 * scale)
    torch.testing.assert_close(x @ x.mT / 64, torch.eye(3, dtype=x.dtype).expand(2, 3, 3), atol=1e-3, rtol=0)
    assert x.mean(-1).abs().max() < 1e-9


@pytest.mark.parametrize('rank', range(4))
def test_derivatives_at_every_rank(rank):
    # A larger eps tames the curvature (1 / eps for missing dimensions) for finite differences; the formula is the same.
    layer = norm(eps_rel=0.1, eps_abs=0.1)
    x = features(rank).requires_grad_()
    assert gradcheck(layer, x) and gradgradcheck(layer, x)


@pytest.mark.parametrize('rank', range(4))
def test_methods_agree_and_stay_finite_at_the_default_eps(rank):
    x, results = features(rank, count=3), []
    for method in ('sylvester', 'newton_schulz'):
        y = x.clone().requires_grad_()
        torch.manual_seed(0)
        out = norm(method=method)(y)
        first, = torch.autograd.grad((out * x.cos()).sum(), y, create_graph=True)
        second, = torch.autograd.grad((first * x.sin()).sum(), y)
        results.append((out, first, second))
        assert all(part.isfinite().all() for part in results[-1])
    for a, b in zip(*results, strict=True):
        assert (a - b).abs().max() <= 1e-9 * max(1.0, float(a.detach().abs().max()))


def test_equal_vectors_vanish():
    assert norm()(torch.ones(1, 3, CHANNELS, dtype=torch.float64)).abs().max() == 0


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_autocast_does_not_reach_inside(dtype):
    layer, x = EquivariantLayerNorm(CHANNELS), features(2, count=50).to(dtype)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.float32
    assert torch.equal(out, layer(x.float()))


@pytest.mark.parametrize('fields, message', [
    (dict(kind='batch'), r"'kind' must be one of whiten, rms, none \(got 'batch'\)"),
    (dict(method='svd'), r"'method' must be one of auto, sylvester, newton_schulz \(got 'svd'\)"),
    (dict(eps_rel=-1.0), r"'eps_rel' must be not negative \(got -1.0\)"),
    (dict(eps_rel=1e-4, method='newton_schulz'), r"'eps_rel' must be at least 1e-3 for Newton–Schulz \(got 0.0001\)"),
    (dict(eps_abs=0.0), r"'eps_abs' must be positive \(got 0.0\)"),
], ids=range(5))
def test_bad_settings(fields, message):
    with pytest.raises(ValueError, match=message):
        EquivariantLayerNorm(4, **fields)
