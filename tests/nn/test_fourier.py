import math

import torch

from torch_geometric_inertial.nn import FourierFeatures


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
