r"""A small diffusion model of one 3-vector per token, given a condition vector."""
from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.denoising_mlp import DenoisingMLP
from torch_geometric_inertial.nn.denoising_steps import DenoisingSteps
from torch_geometric_inertial.nn.flow_solvers import SOLVERS, noise_levels
from torch_geometric_inertial.nn.pair_field import Pairs

Real = TypeVar('Real', float, Tensor)

NUM_STEPS = 12  #: Evaluations a sample: more improve neither atoms nor molecules (benchmarks/study_sampler.py).


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

    def denoise(self, x: Tensor, sigma: Tensor, cond: Tensor, pairs: Pairs | None = None) -> Tensor:
        r""":math:`D(x; \sigma, c)`, with :obj:`cond` already through :obj:`cond_linear`."""
        c_skip, c_out, c_in = self.precondition(sigma)
        return c_skip * x + c_out * self.network(c_in * x, sigma.log() / 4, cond, x, pairs)

    def loss(self, y: Tensor, cond: Tensor, num_draws: int, generator: torch.Generator | None = None,
             pairs: Pairs | None = None) -> Tensor:
        r"""The weighted denoising error of each token, averaged over its noise draws and components.

        With EDM's weight :math:`\lambda(\sigma) = c_\mathrm{out}^{-2}` this is the plain error of :math:`F`.

        Args:
            y (Tensor): Coordinates [T, 3] in Å.
            cond (Tensor): Conditions [T, C].
            num_draws (int): Noise draws a token.
            generator (torch.Generator, optional): Source of the noise, on the device of :obj:`y`.
            pairs (Pairs, optional): The atoms around, for a network that looks at them.

        Returns:
            Tensor: Loss [T].
        """
        shape = (num_draws, y.size(0))
        log_sigma = self.noise_mean + self.noise_std * torch.randn(*shape, 1, generator=generator, device=y.device)
        sigma = log_sigma.exp()
        x = y + sigma * torch.randn(*shape, 3, generator=generator, device=y.device)
        c_skip, c_out, c_in = self.precondition(sigma)
        error = self.network(c_in * x, log_sigma / 4, self.cond_linear(cond), x, pairs) - (y - c_skip * x) / c_out
        return error.square().mean(dim=(0, 2))

    @torch.no_grad()
    def sample(self, cond: Tensor, noise: Tensor, num_steps: int, solver: str = 'dpmpp', *,
               pairs: Pairs | None = None, guidance: tuple[Tensor, Pairs | None, float] | None = None,
               temperature: float = 1.0, sigma_max: float | None = None, sigma_min: float = 5e-3,
               rho: float = 7.0) -> Tensor:
        r"""Solves the probability-flow ODE from noise to coordinates, in float32.

        Args:
            cond (Tensor): Conditions [T, C].
            noise (Tensor): Standard normal numbers [T, 3]; the only source of randomness.
            num_steps (int): Evaluations of the network.
            solver (str): Of :data:`~torch_geometric_inertial.nn.flow_solvers.SOLVERS`. (default: :obj:`'dpmpp'`)
            pairs (Pairs, optional): The atoms around, for a network that looks at them.
            guidance (tuple, optional): Null conditions [T, C], their atoms around, and the scale :math:`w` of
                :math:`D_\emptyset + w (D_c - D_\emptyset)` (Ho & Salimans 2022).
            temperature (float): Scale of the start. (default: :obj:`1.0`)
            sigma_max (float, optional): First noise level (Å). (default: 25 times :obj:`sigma_data`)
            sigma_min (float): Last noise level before zero (Å). (default: :obj:`5e-3`)
            rho (float): Karras et al. (2022), Eq. 5. (default: :obj:`7.0`)

        Returns:
            Tensor: Coordinates [T, 3] in Å.

        Raises:
            ValueError: If there is no such solver, or too few steps for it.
        """
        if solver not in SOLVERS:
            raise ValueError(f"'solver' must be one of {', '.join(SOLVERS)} (got '{solver}')")
        least = 3 if solver == 'heun' else 2
        if num_steps < least:
            raise ValueError(f"'num_steps' must be at least {least} for '{solver}' (got {num_steps})")
        scale = 1.0
        if guidance is not None:
            null_cond, null_pairs, scale = guidance
            if scale == 0:
                cond, pairs = null_cond, null_pairs
            elif scale != 1:
                cond = torch.cat([cond, null_cond])
                pairs = None if pairs is None else pairs.append(null_pairs)
        sigma_max = 25 * self.sigma_data if sigma_max is None else sigma_max
        sigmas = noise_levels((num_steps + 1) // 2 if solver == 'heun' else num_steps, sigma_max, sigma_min, rho)
        level = torch.tensor(sigmas, device=noise.device).log().unsqueeze(1) / 4
        with torch.autocast(noise.device.type, enabled=False):
            pairs = None if pairs is None else pairs.float()
            network = DenoisingSteps(self.network, level, self.cond_linear(cond.float()), pairs)

            def denoise(i: int, x: Tensor) -> Tensor:
                c_skip, c_out, c_in = self.precondition(sigmas[i])
                if cond.size(0) == x.size(0):
                    out = network(i, c_in * x, x)
                else:
                    both = torch.cat([x, x])
                    wanted, null = network(i, c_in * both, both).chunk(2)
                    out = torch.lerp(null, wanted, scale)
                return torch.add(c_skip * x, out, alpha=c_out)

            return SOLVERS[solver](denoise, sigma_max * temperature * noise.float(), sigmas)
