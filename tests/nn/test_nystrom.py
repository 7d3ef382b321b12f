import pytest
import torch

from torch_geometric_inertial import InertialARConfig
from torch_geometric_inertial.nn import NystromFeatures
from torch_geometric_inertial.nn.nystrom import (
    GaussianKernel,
    NystromKernel,
    covering_landmarks,
    gaussian_kernel,
    kmeans_landmarks,
)


@pytest.fixture(scope='module')
def fitted(qm9):
    config = InertialARConfig()
    return NystromKernel((config.width, ), config.num_landmarks).fit(qm9[0].pos)


def figures(features, pos):
    """Mean squared norm and mean absolute kernel error of each scale."""
    phi = features(pos)
    near, off = phi.square().sum(-1).mean(0), []
    for s, width in enumerate(features.widths):
        off.append((phi[:, s] @ phi[:, s].mT - gaussian_kernel(pos, pos, width)).abs().mean())
    return near, torch.stack(off)


def test_fitted_features_are_the_kernel_on_real_atoms(fitted, qm9):
    norm, error = figures(fitted, qm9[0].pos[::17])
    assert norm.min() > 0.95 and norm.max() < 1.01
    assert error.max() < 0.02


def test_features_before_any_fit_are_not_inert(qm9):
    config = InertialARConfig()
    norm, error = figures(NystromFeatures((config.width, ), config.num_landmarks), qm9[0].pos[::17])
    assert norm.min() > 0.8 and error.max() < 0.02


def test_products_agree_with_the_exact_kernel(fitted, qm9):
    exact = GaussianKernel(fitted.widths)
    for data in qm9[1]:
        pos = data.pos.unsqueeze(0)
        close = fitted.gram(fitted.features(pos), fitted.features(pos))
        kernel = exact.gram(exact.features(pos), exact.features(pos))
        assert kernel.shape == close.shape
        assert (close - kernel).abs().mean() < 0.02
        distance = torch.cdist(pos, pos)[:, None] / torch.tensor(fitted.widths).view(-1, 1, 1)
        torch.testing.assert_close(kernel, (-distance**2 / 2).exp(), atol=1e-4, rtol=0)


def test_whitening_is_the_symmetric_inverse_root():
    features = NystromFeatures((1.0, 2.0), 24, eps=1e-3)
    z = features.landmarks.double()
    for whitening, width in zip(features.whitening.double(), features.widths, strict=True):
        assert torch.equal(whitening, whitening.mT)
        w = gaussian_kernel(z, z, width) + 1e-3 * torch.eye(24, dtype=z.dtype)
        torch.testing.assert_close(whitening @ w @ whitening, torch.eye(24, dtype=z.dtype), atol=1e-3, rtol=0)
        assert torch.linalg.eigvalsh(whitening).min() > 0


def test_features_at_the_landmarks_give_back_the_kernel():
    features = NystromFeatures((1.5, ), 32).double()
    features._whiten()
    z = features.landmarks
    phi = features(z)[:, 0]
    torch.testing.assert_close(phi @ phi.mT, gaussian_kernel(z, z, 1.5), atol=1e-4, rtol=0)


def test_features_are_local_in_batch_and_follow_the_dtype_of_positions():
    features = NystromFeatures(num_landmarks=16)
    pos = torch.randn(7, 3, dtype=torch.float64)
    torch.testing.assert_close(features(pos[2]), features(pos)[2])
    assert features(pos).shape == (7, 3, 16) and features(pos).dtype == torch.float64
    assert features(pos.float()).dtype == torch.float32


def test_the_covering_fills_an_ellipsoid():
    extent = torch.tensor([4.5, 3.0, 2.5], dtype=torch.float64)
    z = covering_landmarks(128, tuple(extent.tolist()))
    assert z.shape == (128, 3)
    assert ((z / extent).norm(dim=1) <= 1).all()
    assert z.mean(0).abs().max() < 0.3
    apart = torch.cdist(z, z) + 1e9 * torch.eye(128)
    assert apart.min() > 0.2  # no two landmarks fall together: W stays well conditioned
    g = torch.Generator().manual_seed(0)
    inside = torch.randn(2000, 3, generator=g, dtype=torch.float64)
    inside = extent * inside / inside.norm(dim=1, keepdim=True) * torch.rand(2000, 1, generator=g).double()**(1 / 3)
    assert torch.cdist(inside, z).min(dim=1).values.max() < 2.0


def test_kmeans_is_a_function_of_positions_and_seed_and_lies_among_them():
    g = torch.Generator().manual_seed(1)
    centers = 10 * torch.eye(3, dtype=torch.float64)
    pos = (centers.repeat(50, 1) + 0.1 * torch.randn(150, 3, generator=g, dtype=torch.float64))
    a, b = kmeans_landmarks(pos, 8, seed=3), kmeans_landmarks(pos, 8, seed=3)
    assert torch.equal(a, b)
    assert torch.cdist(a, centers).min(dim=1).values.max() < 1.0
    assert torch.cdist(centers, a).min(dim=1).values.max() < 0.5


def test_fit_touches_no_global_random_state():
    state = torch.random.get_rng_state()
    NystromFeatures(num_landmarks=8).fit(torch.linspace(-1, 1, 60).view(20, 3))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_errors():
    with pytest.raises(ValueError, match=r"'widths' must be one or more positive lengths in Å \(got \(\)\)"):
        NystromFeatures(())
    with pytest.raises(ValueError, match=r"'widths' must be one or more positive lengths in Å \(got \(1.0, 0.0\)\)"):
        NystromFeatures((1.0, 0.0))
    with pytest.raises(ValueError, match=r"'widths' must be one or more positive lengths in Å \(got \(\)\)"):
        GaussianKernel(())
    with pytest.raises(ValueError, match=r"'pos' must hold at least num_landmarks = 16 positions \(got 5\)"):
        NystromFeatures(num_landmarks=16).fit(torch.zeros(5, 3))
