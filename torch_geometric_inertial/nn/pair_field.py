r"""What the atoms around a place say to a coordinate that is being denoised there."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.fourier import FourierFeatures

SPACING = 0.15  #: Of the centers of the radial basis, and their width, Å.


class NeighborContext(NamedTuple):
    r"""The atoms around each place, the parent first.

    Attributes:
        offset (Tensor): Their positions in the axes of the place [T, K, 3], Å.
        key (Tensor): What they are [T, K, P].
        valid (Tensor): Which of them exist [T, K].
    """
    offset: Tensor
    key: Tensor
    valid: Tensor

    def to(self, dtype: torch.dtype) -> NeighborContext:
        return NeighborContext(self.offset.to(dtype), self.key.to(dtype), self.valid)

    def append(self, other: NeighborContext) -> NeighborContext:
        r"""These places, and behind them the others."""
        return NeighborContext(*(torch.cat(both) for both in zip(self, other, strict=True)))


class PairField(nn.Module):
    r"""Messages from the atoms around to a noisy coordinate, and a force along each line to it.

    .. math::
        m_j = \mathrm{SiLU}(W_2\, \mathrm{SiLU}(W_d\, \mathrm{RBF}(|x - r_j|) + W_u \hat u_j + W_\sigma F(\ln \sigma)
        + k_j)), \quad e \mathrel{+}= W_o \sum_j m_j, \quad F \mathrel{+}= \sum_j (w \cdot m_j)\, \hat u_j,
        \quad \hat u_j = (x - r_j) / |x - r_j|

    A denoiser that sees distances knows that atoms do not overlap and closes rings at the right length; a condition
    vector alone would have to carry every neighbor's position through one bottleneck.

    Args:
        channels (int): Width of the denoiser.
        pair_channels (int): Size :math:`P` of a message.
    """
    centers: Tensor

    def __init__(self, channels: int, pair_channels: int):
        super().__init__()
        self.register_buffer('centers', torch.arange(0.3, 4.0, SPACING), persistent=False)
        self.noise_fourier = FourierFeatures(16, 0.3, 8.0)
        self.distance = nn.Linear(self.centers.numel(), pair_channels)
        self.direction = nn.Linear(3, pair_channels, bias=False)
        self.noise = nn.Linear(16, pair_channels, bias=False)
        self.second = nn.Linear(pair_channels, pair_channels)
        self.out = nn.Linear(pair_channels, channels, bias=False)
        self.force = nn.Linear(pair_channels, 1, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.force.weight)

    def forward(self, x: Tensor, noise_level: Tensor, neighbors: NeighborContext) -> tuple[Tensor, Tensor]:
        r"""Noisy coordinates [..., T, 3] (Å) and :math:`\ln \sigma / 4` [..., T, 1] to [..., T, W] and [..., T, 3]."""
        line = x.unsqueeze(-2) - neighbors.offset  # [..., T, K, 3]
        length = (line.square().sum(-1, keepdim=True) + 1e-6).sqrt()
        line = line / length
        message = self.distance(torch.exp(-((length - self.centers) / SPACING).square() / 2)) + self.direction(line)
        message = message + neighbors.key + self.noise(self.noise_fourier(noise_level)).unsqueeze(-2)
        message = nn.functional.silu(self.second(nn.functional.silu(message)))
        message = message * neighbors.valid.unsqueeze(-1)
        return self.out(message.sum(dim=-2)), (self.force(message).to(line.dtype) * line).sum(dim=-2)


class PairFieldSteps:
    r"""A :class:`PairField` among given atoms at noise levels that are known beforehand, without gradients; columns of
    atoms that no place has are left out.

    Args:
        field (PairField): See there.
        noise_level (Tensor): :math:`\ln \sigma / 4` of the steps [S, 1].
        neighbors (NeighborContext): The atoms around.
    """
    def __init__(self, field: PairField, noise_level: Tensor, neighbors: NeighborContext):
        self.field = field
        self.offset, self.key, self.valid = (t[:, neighbors.valid.any(dim=0)] for t in neighbors)
        self.key = self.key + field.distance.bias
        self.noise = field.noise(field.noise_fourier(noise_level))  # [S, P]
        self.weight = torch.cat([field.distance.weight, field.direction.weight], dim=1).mT.contiguous()
        self.scale = 0.5**0.5 / SPACING
        self.centers = field.centers * -self.scale
        self.features = self.offset.new_empty(*self.valid.shape, self.weight.size(0))
        self.mask = self.valid.unsqueeze(-1).to(self.offset.dtype)

    def __call__(self, step: int, x: Tensor) -> tuple[Tensor, Tensor]:
        r"""Coordinates [T, 3] (Å) to [T, W] and [T, 3]."""
        line = x.unsqueeze(1) - self.offset
        length = line.square().sum(-1, keepdim=True).add_(1e-6).sqrt_()
        line /= length
        radial, direction = self.features.split([self.centers.numel(), 3], dim=-1)
        torch.add(self.centers, length, alpha=self.scale, out=radial)
        radial.square_().neg_().exp_()
        direction.copy_(line)
        message = self.key + self.noise[step]
        message.flatten(0, 1).addmm_(self.features.flatten(0, 1), self.weight)
        message = self.field.second(nn.functional.silu(message, inplace=True))
        message = nn.functional.silu(message, inplace=True).mul_(self.mask)
        return self.field.out(message.sum(dim=1)), self.field.force(message).mul(line).sum(dim=1)
