r"""Sines and cosines of a real number, over a geometric band of wave lengths or at random frequencies."""
import math

import torch
from torch import Tensor, nn


def cosines(u: Tensor, freqs: Tensor, phases: Tensor) -> Tensor:
    r""":math:`\sqrt 2 \cos(u f_k + v_k)` of numbers [..., A]: [..., A * K], in the precision of the frequencies."""
    angle = torch.addcmul(phases, u.to(freqs.dtype).unsqueeze(-1), freqs)
    return angle.cos().mul_(math.sqrt(2)).flatten(-2)


class FourierFeatures(nn.Module):
    r""":math:`\sqrt 2\,[\cos(2 \pi u / \lambda_k), \sin(2 \pi u / \lambda_k)]`, in float32 or more.

    Args:
        num_features (int): Numbers per input number, even.
        shortest (float): The shortest wave length, in units of the input.
        longest (float): The longest wave length, in units of the input.

    Shapes:
        - **input:** [..., A]
        - **output:** [..., A * num_features]
    """
    freqs: Tensor
    phases: Tensor

    def __init__(self, num_features: int, shortest: float, longest: float):
        super().__init__()
        self.num_features = num_features
        wave_length = shortest * (longest / shortest)**torch.linspace(0, 1, num_features // 2)
        self.register_buffer('freqs', (2 * math.pi / wave_length).repeat(2), persistent=False)
        phases = torch.tensor([0, -math.pi / 2]).repeat_interleave(num_features // 2)  # a sine is a later cosine
        self.register_buffer('phases', phases, persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        return cosines(u, self.freqs, self.phases)


class RandomFourierFeatures(nn.Module):
    r""":math:`\sqrt 2 \cos(2 \pi (B g_k u + v_k))` with fixed :math:`g_k \sim \mathcal N(0, 1)` and
    :math:`v_k \sim \mathcal U(0, 1)`, in float32 or more (Rahimi & Recht 2007).

    The mean product of the features of :math:`u` and :math:`u'` approximates :math:`\exp(-2 (\pi B (u - u'))^2)`. The
    draws are part of the state dict.

    Args:
        num_features (int): Numbers :math:`K` per input number.
        bandwidth (float): Standard deviation :math:`B` of the frequencies, in cycles per unit of the input.

    Shapes:
        - **input:** [..., A]
        - **output:** [..., A * num_features]
    """
    freqs: Tensor
    phases: Tensor

    def __init__(self, num_features: int, bandwidth: float):
        super().__init__()
        self.num_features, self.bandwidth = num_features, bandwidth
        self.register_buffer('freqs', torch.empty(num_features))
        self.register_buffer('phases', torch.empty(num_features))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.freqs, std=2 * math.pi * self.bandwidth)
        nn.init.uniform_(self.phases, 0, 2 * math.pi)

    def forward(self, u: Tensor) -> Tensor:
        return cosines(u, self.freqs, self.phases)
