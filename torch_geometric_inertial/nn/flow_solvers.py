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


def adams(denoise: Denoiser, x: Tensor, sigmas: list[float], order: int = 3, correct: bool = True) -> Tensor:
    r"""An exponential Adams method: one evaluation a step.

    With :math:`\lambda = -\ln \sigma` the flow is :math:`x_t = e^{-h} x_s + \int_{-h}^0 e^\tau D\, d\tau`; :math:`D`
    is replaced by the polynomial through its last :obj:`order` values, and, once the value at the end is known, the
    step is taken again with it (predictor and corrector; Zhao et al. 2023).
    """
    values: list[Tensor] = []
    start, times = x, [-math.log(sigma) for sigma in sigmas]
    for i in range(len(sigmas)):
        values.append(denoise(i, x))
        if i == len(sigmas) - 1:
            return values[-1]
        if correct and i > 0:
            x = _step(start, times, values[-order - 1:], i - 1, i, i)
        start = x
        values = values[-order - 1:]
        x = _step(start, times, values[-order:], i, i + 1, i)
    return x


def _step(x: Tensor, times: list[float], values: list[Tensor], start: int, end: int, last: int) -> Tensor:
    h = times[end] - times[start]
    nodes = [t - times[end] for t in times[last + 1 - len(values):last + 1]]
    moments = [1 - math.exp(-h)]
    for k in range(1, len(nodes)):
        moments.append(-math.exp(-h) * (-h)**k - k * moments[-1])
    powers = torch.tensor([[t**k for t in nodes] for k in range(len(nodes))], dtype=torch.float64)
    weights = torch.linalg.solve(powers, torch.tensor(moments, dtype=torch.float64)).tolist()
    out = math.exp(-h) * x
    for weight, value in zip(weights, values, strict=True):
        out.add_(value, alpha=weight)
    return out


SOLVERS: dict[str, Callable[[Denoiser, Tensor, list[float]], Tensor]] = dict(dpmpp=dpmpp, heun=heun, adams=adams)
