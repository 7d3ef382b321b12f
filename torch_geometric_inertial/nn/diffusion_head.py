r"""A small diffusion model of one 3-vector per token, given a condition vector."""
from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.denoising_mlp import DenoisingMLP
from torch_geometric_inertial.nn.denoising_steps import DenoisingSteps
from torch_geometric_inertial.nn.flow_solvers import SOLVERS, check_steps, noise_levels
from torch_geometric_inertial.nn.pair_field import NeighborContext

Real = TypeVar('Real', float, Tensor)

NUM_STEPS = 12  #: Evaluations per sample: more improve neither atoms nor molecules.
#: The grid of noise levels in sampling: the first in units of :obj:`sigma_data`, the last in Å before zero, and the
#: exponent of Karras et al. (2022), Eq. 5.
SIGMA_MAX, SIGMA_MIN, RHO = 25.0, 5e-3, 7.0
BOUND_LEVELS = (0.05, 3.0, 6)  #: Å; the first noise level of the bound, the last, how many.


class DiffusionHead(nn.Module):
    r"""The density of a coordinate :math:`y \in \mathbb R^3` given a condition, as an EDM diffusion model.

    .. math::
        D(x; \sigma, c) = c_\mathrm{skip} x + c_\mathrm{out} F(c_\mathrm{in} x, \tfrac14 \ln \sigma, c)

    with the preconditioning of Karras et al. (2022), Table 1, and an AdaLN MLP as :math:`F` (Li et al. 2024, MAR).

    Args:
        channels (int): Width of the MLP.
        cond_channels (int): Size of the condition.
        num_layers (int): Residual blocks.
        sigma_data (float): Standard deviation of a component of :math:`y`, in Å.
        noise_mean (float): Mean of :math:`\ln \sigma` in training. (default: :obj:`-1.2`)
        noise_std (float): Its standard deviation. (default: :obj:`1.2`)
        **kwargs: Of :class:`~torch_geometric_inertial.nn.denoising_mlp.DenoisingMLP`.
    """
    def __init__(self, channels: int, cond_channels: int, num_layers: int, *, sigma_data: float,
                 noise_mean: float = -1.2, noise_std: float = 1.2, **kwargs):
        super().__init__()
        self.sigma_data, self.noise_mean, self.noise_std = sigma_data, noise_mean, noise_std
        self.cond_linear = nn.Linear(cond_channels, channels)
        self.network = DenoisingMLP(channels, num_layers, **kwargs)

    def precondition(self, sigma: Real) -> tuple[Real, Real, Real]:
        r""":math:`(c_\mathrm{skip}, c_\mathrm{out}, c_\mathrm{in})` at the noise level :obj:`sigma` (Å)."""
        total = (sigma**2 + self.sigma_data**2)**0.5
        return (self.sigma_data / total)**2, sigma * self.sigma_data / total, 1 / total

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor, neighbors: NeighborContext | None = None) -> Tensor:
        r""":math:`D(x; \sigma, c)`, with :obj:`cond` already through :obj:`cond_linear`."""
        c_skip, c_out, c_in = self.precondition(sigma)
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, cond, x, neighbors)

    def loss(self, y: Tensor, cond: Tensor, num_draws: int, generator: torch.Generator | None = None,
             neighbors: NeighborContext | None = None) -> Tensor:
        r"""The weighted denoising error of each token, averaged over its noise draws and components.

        With EDM's weight :math:`\lambda(\sigma) = c_\mathrm{out}^{-2}` this is the plain error of :math:`F`.

        Args:
            y (Tensor): Coordinates [T, 3] in Å.
            cond (Tensor): Conditions [T, C].
            num_draws (int): Noise draws per token.
            generator (torch.Generator, optional): Source of the noise, on the device of :obj:`y`.
            neighbors (NeighborContext, optional): The atoms around, for a network that looks at them.

        Returns:
            Tensor: Loss [T].
        """
        shape = (num_draws, y.size(0))
        # one draw from each of num_draws equal parts of the distribution: the same mean with less noise
        part = torch.arange(num_draws, device=y.device).view(-1, 1, 1)
        uniform = (part + torch.rand(*shape, 1, generator=generator, device=y.device, dtype=torch.float32)) / num_draws
        log_sigma = self.noise_mean + self.noise_std * torch.special.ndtri(uniform.clamp(1e-6, 1 - 1e-6))
        sigma = log_sigma.exp()
        x = y + sigma * torch.randn(*shape, 3, generator=generator, device=y.device, dtype=torch.float32)
        c_skip, c_out, c_in = self.precondition(sigma)
        error = self.network(c_in * x, log_sigma / 4, self.cond_linear(cond), x, neighbors) - (y - c_skip * x) / c_out
        return error.square().mean(dim=(0, 2))

    def log_prob_bound(self, y: Tensor, cond: Tensor, noise: Tensor,
                       neighbors: NeighborContext | None = None) -> Tensor:
        r"""A lower bound of the log-density of coordinates up to a constant, quickly enough to compare many. It is that
        of a diffusion model (Kingma et al., 2021),

        .. math::
            \log p(y) \ge -\int \frac{\lVert D(y + \sigma \epsilon; \sigma, c) - y \rVert^2}{\sigma^2}\, d\ln\sigma + C,

        over the noise levels where molecules differ (:data:`BOUND_LEVELS`), with one :math:`\epsilon` per token, which
        all that are compared should share.

        Args:
            y (Tensor): Coordinates [T, 3] in Å.
            cond (Tensor): Conditions [T, C].
            noise (Tensor): Standard normal numbers :math:`\epsilon` [T, 3].
            neighbors (NeighborContext, optional): The atoms around, for a network that looks at them.

        Returns:
            Tensor: In nats [T], float64.
        """
        cond, bound = self.cond_linear(cond), y.new_zeros(y.size(0), dtype=torch.float64)
        first, last, number = BOUND_LEVELS
        step = math.log(last / first) / (number - 1)
        for i in range(number):
            sigma = first * math.exp(i * step)
            error = self.denoise(y + sigma * noise, noise.new_full((y.size(0), 1), sigma), cond, neighbors) - y
            bound = bound - step * error.double().square().sum(dim=-1) / sigma**2
        return bound

    @torch.no_grad()
    def sample(self, cond: Tensor, noise: Tensor, num_steps: int, solver: str = 'dpmpp', *,
               neighbors: NeighborContext | None = None,
               guidance: tuple[Tensor, NeighborContext | None, float] | None = None,
               path: list[Tensor] | None = None) -> Tensor:
        r"""Solves the probability-flow ODE from noise to coordinates, in the precision of the weights.

        Args:
            cond (Tensor): Conditions [T, C].
            noise (Tensor): Standard normal numbers [T, 3]; the only source of randomness.
            num_steps (int): Evaluations of the network.
            solver (str): Of :data:`~torch_geometric_inertial.nn.flow_solvers.SOLVERS`. (default: :obj:`'dpmpp'`)
            neighbors (NeighborContext, optional): The atoms around, for a network that looks at them.
            guidance (tuple, optional): Null conditions [T, C], their atoms around, and the scale :math:`w` of
                :math:`D_\emptyset + w (D_c - D_\emptyset)` (Ho & Salimans 2022).
            path (list, optional): Takes the coordinates [T, 3] of each evaluation.

        Returns:
            Tensor: Coordinates [T, 3] in Å.

        Raises:
            ValueError: If there is no such solver, or too few steps for it.
        """
        check_steps(solver, num_steps)
        scale = 1.0
        if guidance is not None:
            null_cond, null_neighbors, scale = guidance
            if scale == 0:
                cond, neighbors = null_cond, null_neighbors
            elif scale != 1:
                cond = torch.cat([cond, null_cond])
                neighbors = None if neighbors is None else neighbors.append(null_neighbors)
        sigma_max = SIGMA_MAX * self.sigma_data
        sigmas = noise_levels((num_steps + 1) // 2 if solver == 'heun' else num_steps, sigma_max, SIGMA_MIN, RHO)
        level = torch.tensor(sigmas, device=noise.device).log().unsqueeze(1) / 4
        dtype = self.cond_linear.weight.dtype
        with torch.autocast(noise.device.type, enabled=False):
            neighbors = None if neighbors is None else neighbors.to(dtype)
            network = DenoisingSteps(self.network, level.to(dtype), self.cond_linear(cond.to(dtype)), neighbors)

            def denoise(i: int, x: Tensor) -> Tensor:
                c_skip, c_out, c_in = self.precondition(sigmas[i])
                if path is not None:
                    path.append(x)
                if cond.size(0) == x.size(0):
                    out = network(i, c_in * x, x)
                else:
                    both = torch.cat([x, x])
                    asked, null = network(i, c_in * both, both).chunk(2)
                    out = torch.lerp(null, asked, scale)
                return torch.add(c_skip * x, out, alpha=c_out)

            return SOLVERS[solver](denoise, sigma_max * noise.to(dtype), sigmas)
