r"""A small diffusion model of one 3-vector per token, given a condition vector."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.nn.denoising_mlp import DenoisingMLP
from torch_geometric_inertial.nn.pair_field import Pairs


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

    def precondition(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        r""":math:`(c_\mathrm{skip}, c_\mathrm{out}, c_\mathrm{in})` at the noise level :obj:`sigma` (Å)."""
        total = (sigma**2 + self.sigma_data**2).sqrt()
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
               pairs: Pairs | None = None, temperature: float = 1.0,
               sigma_max: float = 40.0, sigma_min: float = 2e-3, rho: float = 7.0) -> Tensor:
        r"""Solves the probability-flow ODE from noise to coordinates.

        Args:
            cond (Tensor): Conditions [T, C].
            noise (Tensor): Standard normal numbers [T, 3]; the only source of randomness.
            num_steps (int): Evaluations of the network.
            solver (str): :obj:`'dpmpp'`: DPM-Solver++(2M) (Lu et al. 2022); :obj:`'heun'`: Karras et al. (2022),
                Alg. 1, two evaluations a step. (default: :obj:`'dpmpp'`)
            pairs (Pairs, optional): The atoms around, for a network that looks at them.
            temperature (float): Scale of the start. (default: :obj:`1.0`)
            sigma_max (float): First noise level (Å).
            sigma_min (float): Last noise level before zero (Å).
            rho (float): Karras et al. (2022), Eq. 5.

        Returns:
            Tensor: Coordinates [T, 3] in Å.
        """
        if solver not in ('dpmpp', 'heun'):
            raise ValueError(f"'solver' must be 'dpmpp' or 'heun' (got '{solver}')")
        least = 2 if solver == 'dpmpp' else 3
        if num_steps < least:
            raise ValueError(f"'num_steps' must be at least {least} for '{solver}' (got {num_steps})")
        n = num_steps if solver == 'dpmpp' else (num_steps + 1) // 2
        ramp = torch.linspace(0, 1, n, device=noise.device)
        sigmas = (sigma_max**(1 / rho) + ramp * (sigma_min**(1 / rho) - sigma_max**(1 / rho)))**rho
        cond = self.cond_linear(cond)
        x = sigma_max * temperature * noise
        previous = None
        for i in range(n):
            sigma = sigmas[i].expand(x.size(0), 1)
            denoised = self.denoise(x, sigma, cond, pairs)
            if i == n - 1:
                return denoised
            ratio = sigmas[i + 1] / sigmas[i]
            if solver == 'heun':
                slope = (x - denoised) / sigmas[i]
                euler = x + (sigmas[i + 1] - sigmas[i]) * slope
                slope_end = (euler - self.denoise(euler, sigmas[i + 1].expand(x.size(0), 1), cond,
                                                  pairs)) / sigmas[i + 1]
                x = x + (sigmas[i + 1] - sigmas[i]) * (slope + slope_end) / 2
                continue
            estimate = denoised
            if previous is not None:
                r = (sigmas[i - 1] / sigmas[i]).log() / (sigmas[i] / sigmas[i + 1]).log()
                estimate = denoised + (denoised - previous) / (2 * r)
            x, previous = ratio * x + (1 - ratio) * estimate, denoised
        return x
