r"""Functions of a distance."""
from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RADIAL = ('linear', 'log')


def smooth_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    r""":math:`1 - 10 x^3 + 15 x^4 - 6 x^5` of :math:`x = r / r_c`, zero from :math:`x = 1` on, where two derivatives
    vanish too."""
    x = (distance / cutoff).clamp(max=1.0)
    return (1 - x) ** 3 * (1 + x * (3 + 6 * x))  # in factors it never rounds to less than zero


def cosine_cutoff(distance: Tensor, cutoff: float) -> Tensor:
    r""":math:`\frac{1}{2}(\cos \pi r / r_c + 1)`, zero from :math:`r = r_c` on (Behler 2011)."""
    return 0.5 * (torch.cos(distance * (math.pi / cutoff)) + 1) * (distance < cutoff)


class GaussianBasis(nn.Module):
    r"""Gaussians of a distance that is first stretched and shifted by type (GeoMFormer, Sec. 4),

    .. math:: b_k(r, t) = \exp\bigl(-\tfrac{1}{2} ((\gamma_t\,u(r) + \beta_t - \mu_k) / \sigma_k)^2\bigr).

    Starts with :math:`\gamma = 1`, :math:`\beta = 0`, means evenly over the range, widths equal to their spacing, and
    keeps widths above 0.01.

    Args:
        num_types (int): Types :math:`t`, each with its own :math:`\gamma, \beta`.
        num_kernels (int): Gaussians :math:`K`.
        radius (tuple): Smallest and largest distance that the means cover.
        radial (str): :obj:`'linear'`, :math:`u(r) = r`, or :obj:`'log'`, :math:`u(r) = \ln \sqrt{r^2 + r_0^2}` with
            :math:`r_0` half of the smallest distance, for close encounters. (default: :obj:`'linear'`)

    Shapes:
        - **input:** distances [...], types [...] (int64)
        - **output:** [..., K]

    Raises:
        ValueError: If :obj:`radial` is unknown or the range is not one.
    """
    def __init__(self, num_types: int, num_kernels: int, radius: tuple[float, float], radial: str = 'linear'):
        super().__init__()
        if radial not in RADIAL:
            raise ValueError(f"'radial' must be 'linear' or 'log' (got '{radial}')")
        low, high = radius
        if not (low > 0 if radial == 'log' else low >= 0) or not high > low:
            raise ValueError(f"'radius' must be (low, high) with 0 <= low < high, 0 < low if logarithmic "
                             f"(got {radius})")
        self.num_types, self.num_kernels, self.radius = num_types, num_kernels, (low, high)
        self.radial = radial
        self.stretch = nn.Parameter(torch.empty(num_types))
        self.shift = nn.Parameter(torch.empty(num_types))
        self.mean = nn.Parameter(torch.empty(num_kernels))
        self.raw_width = nn.Parameter(torch.empty(num_kernels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        low, high = self.radius
        if self.radial == 'log':
            low, high = math.log(low), math.log(high)
        spacing = (high - low) / max(self.num_kernels - 1, 1)
        nn.init.ones_(self.stretch)
        nn.init.zeros_(self.shift)
        with torch.no_grad():
            self.mean.copy_(torch.linspace(low, high, self.num_kernels))
            self.raw_width.fill_(math.log(math.expm1(max(spacing - 0.01, 1e-3))))  # softplus, backwards

    def forward(self, distance: Tensor, types: Tensor) -> Tensor:
        if self.radial == 'log':
            distance = 0.5 * (distance.square() + (0.5 * self.radius[0]) ** 2).log()
        if self.num_types == 1:
            x = torch.addcmul(self.shift, distance.unsqueeze(-1), self.stretch)
        else:
            table = torch.stack([self.stretch, self.shift], dim=1)
            stretch, shift = nn.functional.embedding(types, table).unbind(-1)
            x = torch.addcmul(shift, distance, stretch).unsqueeze(-1)
        width = nn.functional.softplus(self.raw_width) + 0.01
        return ((x - self.mean) * (math.sqrt(0.5) / width)).square().neg().exp()

    def extra_repr(self) -> str:
        return f"{self.num_types}, {self.num_kernels}, radius={self.radius}, radial='{self.radial}'"
