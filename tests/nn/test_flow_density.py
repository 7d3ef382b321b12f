import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.nn import DiffusionHead, FourierFeatures, RandomFourierFeatures, flow_log_density
from torch_geometric_inertial.nn.flow_density import network_and_trace
from torch_geometric_inertial.nn.pair_field import NeighborContext


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def head(awake=0.0, sigma_data=1.4, seed=0, random=False, **kwargs):
    """A head as it starts, or one whose network says something, smooth enough for a coarse grid."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        kwargs |= dict(coord_fourier=RandomFourierFeatures(8, 0.2) if random else FourierFeatures(8, 3.0, 9.0),
                       noise_fourier=FourierFeatures(8, 3.0, 9.0), modulation='each' if random else 'additive')
        out = DiffusionHead(24, 6, 2, sigma_data=sigma_data, **kwargs)
        if awake > 0:
            for p in out.network.parameters():
                torch.nn.init.normal_(p, std=awake)
    return out.eval()


def gaussian(y, sigma_data, sigma_min=2e-3):
    variance = sigma_data**2 + sigma_min**2
    return -1.5 * math.log(2 * math.pi * variance) - y.double().square().sum(1) / (2 * variance)


@given(sigma_data=st.floats(0.2, 3), num_steps=st.integers(1, 8), scale=st.floats(0, 4))
def test_a_head_that_has_learned_nothing_is_a_gaussian(sigma_data, num_steps, scale):
    """Exactly, whatever the number of steps."""
    y = scale * normal(7, 3)
    density = flow_log_density(head(sigma_data=sigma_data), y, normal(7, 6, seed=1), num_steps)
    torch.testing.assert_close(density, gaussian(y, sigma_data), atol=1e-9, rtol=1e-9)


def test_the_number_that_a_released_code_missed():
    density = flow_log_density(head(), torch.zeros(1, 3), torch.zeros(1, 6))
    assert density.item() == pytest.approx(-1.5 * math.log(2 * math.pi * 1.4**2), abs=1e-5)
    assert density.item() == pytest.approx(-3.77, abs=0.01)


STEP = 0.4


def grid():
    axis = torch.arange(-4.4, 4.41, STEP)
    return torch.cartesian_prod(axis, axis, axis)


@pytest.mark.parametrize('random', [False, True])
def test_the_density_of_a_place_integrates_to_one(random):
    model, places = head(0.1, sigma_data=0.8, seed=2, random=random), grid()
    density = flow_log_density(model, places, normal(1, 6, seed=3).expand(places.size(0), 6), 8, chunk_size=4096).exp()
    assert density.sum().item() * STEP**3 == pytest.approx(1, abs=2e-3)
    assert (density - gaussian(places, 0.8).exp()).abs().max() > 0.5 * density.max()  # the network has a say


def test_the_trace_is_that_of_the_jacobian():
    model, v, cond = head(0.1, seed=4, pair_channels=8), normal(5, 3).double(), normal(5, 24, seed=1)
    neighbors = NeighborContext(normal(5, 4, 3, seed=2), normal(5, 4, 8, seed=3), torch.rand(5, 4) > 0.3)
    force, trace = network_and_trace(model, v, 0.3, cond, neighbors)

    def function(v):
        x = math.hypot(0.3, 1.4) * v
        return model.network(v.float(), torch.full((5, 1), math.log(0.3) / 4), cond, x.float(), neighbors)

    jacobian = torch.autograd.functional.jacobian(function, v)  # [5, 3, 5, 3]
    expected = torch.stack([jacobian[t, :, t].trace() for t in range(5)])
    torch.testing.assert_close(force.float(), function(v))
    torch.testing.assert_close(trace, expected.double(), atol=1e-5, rtol=1e-5)
    small = 1e-3 * torch.eye(3, dtype=torch.float64)
    difference = sum((function(v + e)[:, k] - function(v - e)[:, k]) / 2e-3 for k, e in enumerate(small))
    torch.testing.assert_close(trace.float(), difference, atol=2e-2, rtol=1e-2)


def test_the_sampler_draws_what_the_density_says():
    """The mean log-density of its draws is minus the entropy, the integral of p log p on a grid."""
    model, cond, places = head(0.1, sigma_data=0.8, seed=2), normal(1, 6, seed=3), grid()
    draws = model.sample(cond.expand(4000, 6), normal(4000, 3, seed=5), 32)
    found = flow_log_density(model, draws, cond.expand(4000, 6), 8)
    log_p = flow_log_density(model, places, cond.expand(places.size(0), 6), 8)
    expected = (log_p.exp() * log_p).sum() * STEP**3
    assert found.mean().item() == pytest.approx(expected.item(), abs=4 * found.std().item() / 4000**0.5)
    assert (gaussian(draws, 0.8).mean() - expected).abs() > 0.2


@pytest.mark.parametrize('random', [False, True])
def test_it_converges_in_steps_with_fourth_order(random):
    model, y, cond = head(0.15, seed=2, random=random), normal(30, 3), normal(30, 6, seed=1)
    exact = flow_log_density(model, y, cond, 64)
    error = [float((flow_log_density(model, y, cond, n) - exact).abs().max()) for n in (6, 12, 24)]
    assert error[0] > 8 * error[1] > 64 * error[2] and error[2] < 2e-3


def test_tokens_do_not_hear_of_each_other_nor_of_chunks():
    model, y, cond = head(0.1, seed=4), normal(9, 3), normal(9, 6, seed=1)
    together = flow_log_density(model, y, cond, 4)
    torch.testing.assert_close(flow_log_density(model, y, cond, 4, chunk_size=2), together, atol=1e-4, rtol=1e-5)
    alone = torch.cat([flow_log_density(model, y[i:i + 1], cond[i:i + 1], 4) for i in range(9)])
    torch.testing.assert_close(alone, together, atol=1e-4, rtol=1e-5)
    assert flow_log_density(model, y[:0], cond[:0], 4).shape == (0, )


def test_no_gradient_and_no_global_state():
    model, state = head(0.1, seed=4), torch.get_rng_state()
    with torch.no_grad():
        density = flow_log_density(model, normal(3, 3), normal(3, 6), 2)
    assert not density.requires_grad and all(p.grad is None for p in model.parameters())
    assert torch.is_grad_enabled() and torch.equal(torch.get_rng_state(), state)


def test_autocast_leaves_it_alone():
    model, y, cond = head(0.1, seed=4), normal(9, 3), normal(9, 6, seed=1)
    with torch.autocast('cpu', torch.bfloat16):
        density = flow_log_density(model, y, cond, 4)
    assert torch.equal(density, flow_log_density(model, y, cond, 4))


@pytest.mark.parametrize('name', ['num_steps', 'chunk_size'])
def test_errors(name):
    with pytest.raises(ValueError, match=rf"'{name}' must be at least 1 \(got 0\)"):
        flow_log_density(head(), normal(3, 3), normal(3, 6), **{name: 0})
