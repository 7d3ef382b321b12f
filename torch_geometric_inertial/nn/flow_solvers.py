r"""Solvers of the probability-flow ODE :math:`dx / d\sigma = (x - D(x, \sigma)) / \sigma` on a grid of noise levels."""
from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Denoiser = Callable[[int, Tensor], Tensor]  #: Number of the noise level and x to D(x).


def noise_levels(n: int, sigma_max: float, sigma_min: float, rho: float) -> list[float]:
    r""":math:`n` falling noise levels (Karras et al. 2022, Eq. 5, without the last zero)."""
    ends = sigma_max**(1 / rho), sigma_min**(1 / rho)
    return [(ends[0] + i / (n - 1) * (ends[1] - ends[0]))**rho for i in range(n)]


def heun(denoise: Denoiser, x: Tensor, sigmas: list[float]) -> Tensor:
    r"""Karras et al. (2022), Alg. 1: two evaluations a step, one in the last, down to :math:`\sigma = 0`."""
    for i, (sigma, following) in enumerate(pairwise(sigmas)):
        slope = (x - denoise(i, x)) / sigma
        end = x + (following - sigma) * slope
        x = x + (following - sigma) / 2 * (slope + (end - denoise(i + 1, end)) / following)
    return denoise(len(sigmas) - 1, x)


def dpmpp(denoise: Denoiser, x: Tensor, sigmas: list[float]) -> Tensor:
    r"""DPM-Solver++(2M) (Lu et al. 2022): one evaluation a step."""
    steps = [math.log(a / b) for a, b in pairwise(sigmas)]
    previous = None
    for i, h in enumerate(steps):
        denoised = denoise(i, x)
        estimate = denoised
        if previous is not None:
            estimate = torch.lerp(previous, denoised, 1 + h / (2 * steps[i - 1]))
        x, previous = torch.lerp(estimate, x, math.exp(-h)), denoised
    return denoise(len(sigmas) - 1, x)


SOLVERS: dict[str, Callable[[Denoiser, Tensor, list[float]], Tensor]] = dict(dpmpp=dpmpp, heun=heun)


def check_steps(solver: str, num_steps: int) -> None:
    r"""Refuses what cannot be solved.

    Raises:
        ValueError: If there is no such solver, or too few evaluations for it.
    """
    if solver not in SOLVERS:
        raise ValueError(f"'solver' must be one of {', '.join(SOLVERS)} (got '{solver}')")
    least = 3 if solver == 'heun' else 2
    if num_steps < least:
        raise ValueError(f"'num_steps' must be at least {least} for '{solver}' (got {num_steps})")
