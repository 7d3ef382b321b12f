r"""Sines and cosines of a real number over a geometric band of wave lengths."""
import math

import torch
from torch import Tensor, nn


class FourierFeatures(nn.Module):
    r""":math:`\sqrt 2\,[\cos(2 \pi u / \lambda_k), \sin(2 \pi u / \lambda_k)]`, in float32.

    Args:
        num_features (int): Numbers per input number, even.
        shortest (float): The shortest wave length, in units of the input.
        longest (float): The longest wave length, in units of the input.

    Shapes:
        - **input:** [..., A]
        - **output:** [..., A * num_features]
    """
    freqs: Tensor

    def __init__(self, num_features: int, shortest: float, longest: float):
        super().__init__()
        wave_length = shortest * (longest / shortest)**torch.linspace(0, 1, num_features // 2)
        self.register_buffer('freqs', 2 * math.pi / wave_length, persistent=False)

    def forward(self, u: Tensor) -> Tensor:
        angle = u.float().unsqueeze(-1) * self.freqs
        return math.sqrt(2) * torch.cat([angle.cos(), angle.sin()], dim=-1).flatten(-2)
