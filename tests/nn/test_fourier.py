import math

import torch

from torch_geometric_inertial.nn import FourierFeatures, RandomFourierFeatures


def test_features_are_the_waves_of_a_geometric_band():
    u = torch.tensor([[0.3, -1.7]])
    out = FourierFeatures(8, 0.5, 4.0)(u).view(2, 8)
    wave_length = torch.tensor([0.5, 1.0, 2.0, 4.0])
    angle = 2 * math.pi * u.view(2, 1) / wave_length
    torch.testing.assert_close(out, math.sqrt(2) * torch.cat([angle.cos(), angle.sin()], dim=1))


def test_features_have_unit_power_and_stay_in_float32():
    out = FourierFeatures(16, 0.4, 30.0)(torch.linspace(-9, 9, 999).bfloat16().unsqueeze(1))
    assert out.dtype == torch.float32
    torch.testing.assert_close(out.square().mean(1), torch.ones(999))


def test_random_features_are_the_waves_of_their_state():
    torch.manual_seed(0)
    module, u = RandomFourierFeatures(6, 3.0), torch.tensor([[0.3, -1.7]])
    state = module.state_dict()
    angle = u.unsqueeze(-1) * state['freqs'] + state['phases']
    torch.testing.assert_close(module(u), math.sqrt(2) * angle.cos().flatten(1))
    torch.manual_seed(1)
    other = RandomFourierFeatures(6, 3.0)
    assert not torch.allclose(other(u), module(u))
    other.load_state_dict(state)
    assert torch.equal(other(u), module(u)) and not list(module.parameters())


def test_products_of_random_features_are_a_gaussian_kernel():
    torch.manual_seed(0)
    bandwidth, u = 0.7, torch.linspace(-1, 1, 41).unsqueeze(1)
    features = RandomFourierFeatures(40_000, bandwidth)(u)
    assert features.dtype == torch.float32
    kernel = torch.exp(-2 * (math.pi * bandwidth * (u - u.T)).square())
    torch.testing.assert_close(features @ features.T / 40_000, kernel, atol=0.03, rtol=0)
