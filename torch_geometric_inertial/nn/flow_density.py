r"""The density of a diffusion head, exactly: change of variables along its probability-flow ODE."""
from __future__ import annotations

import math

import torch
from torch import Tensor

from torch_geometric_inertial.nn.diffusion_head import DiffusionHead
from torch_geometric_inertial.nn.pair_field import NeighborContext


@torch.no_grad()
def flow_log_density(head: DiffusionHead, y: Tensor, cond: Tensor, num_steps: int = 16, *,
                     neighbors: NeighborContext | None = None, sigma_min: float = 2e-3, sigma_max: float = 40.0,
                     chunk_size: int = 1024) -> Tensor:
    r"""Log-density, in nats for lengths in Å, of what :meth:`DiffusionHead.sample` draws.

    The flow :math:`dx/d\sigma = (x - D(x; \sigma)) / \sigma` (Karras et al. 2022, Eq. 1 and 3) is followed from the
    data at :math:`\sigma_\mathrm{min}` up to :math:`\sigma_\mathrm{max}`. For the scaled coordinate
    :math:`v = x / \sqrt{\sigma^2 + \sigma_d^2}` and the angle :math:`\theta = \arctan(\sigma / \sigma_d)` the
    preconditioning cancels, and the network alone is left:

    .. math::
        \frac{dv}{d\theta} = -F(v), \qquad
        \log p(x_0) = \log \mathcal N(v_1; 0, I) - \int_{\theta_0}^{\theta_1} \mathrm{tr}\,
        \frac{\partial F}{\partial v}\, d\theta - \tfrac32 \ln(\sigma_\mathrm{min}^2 + \sigma_d^2),

    where :math:`v_1` is the end of the path that starts at the data, so the prior has variance
    :math:`\sigma_\mathrm{max}^2 + \sigma_d^2`. The trace is exact: three vector-Jacobian products. Path and integral
    are advanced together by the classical Runge–Kutta method in equal steps of :math:`\ln \sigma`. At
    :math:`F = 0` the result is that of the Gaussian, whatever the number of steps.

    Args:
        head (DiffusionHead): The head.
        y (Tensor): Coordinates [T, 3] in Å.
        cond (Tensor): Conditions [T, C].
        num_steps (int): Steps of four evaluations of the network and its Jacobian. (default: :obj:`16`)
        neighbors (NeighborContext, optional): The atoms around, for a network that looks at them.
        sigma_min (float): The noise (Å) that the density includes. (default: :obj:`2e-3`)
        sigma_max (float): Where the prior stands, Å. (default: :obj:`40.0`)
        chunk_size (int): Tokens at a time; memory is proportional to it. (default: :obj:`1024`)

    Returns:
        Tensor: Log-densities [T], float64.

    Raises:
        ValueError: If :obj:`num_steps` or :obj:`chunk_size` is below 1.
    """
    for value, name in ((num_steps, 'num_steps'), (chunk_size, 'chunk_size')):
        if value < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {value})")
    out = []
    dtype = head.cond_linear.weight.dtype
    with torch.autocast(y.device.type, enabled=False):  # a density is no place for 8 bits
        for start in range(0, y.size(0), chunk_size):
            part = slice(start, start + chunk_size)
            near = None if neighbors is None else NeighborContext(*(x[part] for x in neighbors)).to(dtype)
            out.append(_integrate(head, y[part], head.cond_linear(cond[part].to(dtype)), near, num_steps, sigma_min,
                                  sigma_max))
    return torch.cat(out) if out else y.new_zeros(0, dtype=torch.float64)


def _integrate(head: DiffusionHead, y: Tensor, cond: Tensor, neighbors: NeighborContext | None, num_steps: int,
               sigma_min: float, sigma_max: float) -> Tensor:
    s, span = head.sigma_data, math.log(sigma_max / sigma_min)
    h = span / num_steps

    def slope(log_sigma: float, state: Tensor) -> Tensor:
        r"""Derivatives by ln σ [T, 4] of the path and of the integral of the trace."""
        sigma = math.exp(log_sigma)
        angle = s * sigma / (s**2 + sigma**2)  # dθ / d ln σ
        force, trace = network_and_trace(head, state[:, :3], sigma, cond, neighbors)
        return angle * torch.cat([-force, trace.unsqueeze(1)], dim=1)

    start = y.double() / math.hypot(sigma_min, s)
    state = torch.cat([start, torch.zeros_like(start[:, :1])], dim=1)
    for i in range(num_steps):
        at = math.log(sigma_min) + i * h
        k1 = slope(at, state)
        k2 = slope(at + h / 2, state + h / 2 * k1)
        k3 = slope(at + h / 2, state + h / 2 * k2)
        k4 = slope(at + h, state + h * k3)
        state = state + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    end, integral = state[:, :3], state[:, 3]
    prior = -end.square().sum(dim=1) / 2 - 1.5 * math.log(2 * math.pi)
    return prior - integral - 1.5 * math.log(sigma_min**2 + s**2)


def network_and_trace(head: DiffusionHead, v: Tensor, sigma: float, cond: Tensor,
                      neighbors: NeighborContext | None) -> tuple[Tensor, Tensor]:
    r""":math:`F(v)` [T, 3] and :math:`\mathrm{tr}\, \partial F / \partial v` [T] at one noise level, in float64."""
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        level = torch.full_like(cond[:, :1], math.log(sigma) / 4)
        x = math.hypot(sigma, head.sigma_data) * v
        force = head.network(v.to(cond.dtype), level, cond, x.to(cond.dtype), neighbors)
        diagonal = [torch.autograd.grad(force[:, k].sum(), v, retain_graph=k < 2)[0][:, k] for k in range(3)]
    return force.detach().double(), torch.stack(diagonal).sum(dim=0)
