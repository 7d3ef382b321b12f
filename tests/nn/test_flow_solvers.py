"""Solvers against flows that are known in closed form."""
import math
from itertools import pairwise

import pytest
import torch

from torch_geometric_inertial.nn.flow_solvers import SOLVERS, adams, noise_levels


def test_noise_levels_fall_from_end_to_end():
    sigmas = noise_levels(7, 40.0, 2e-3, 7.0)
    assert sigmas[0] == pytest.approx(40) and sigmas[-1] == pytest.approx(2e-3)
    assert all(a > b for a, b in pairwise(sigmas))
    assert noise_levels(5, 5.0, 1.0, 1.0) == pytest.approx([5, 4, 3, 2, 1])
    roots = torch.tensor(sigmas).double()**(1 / 7)
    torch.testing.assert_close(roots.diff(), roots.diff().mean().expand(6), rtol=1e-6, atol=0)


@pytest.mark.parametrize('solver', SOLVERS)
def test_a_constant_denoiser_is_solved_exactly(solver):
    target = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    x = SOLVERS[solver](lambda i, x: target, torch.full((1, 3), 40.0, dtype=torch.float64), noise_levels(4, 40, 0.1, 7))
    torch.testing.assert_close(x, target)


def gaussian_error(solver, n, sigma_data=0.8):
    """Data N(0, s^2): D(x) = s^2 x / (s^2 + sigma^2), and x^2 / (s^2 + sigma^2) stays what it was."""
    sigmas = noise_levels(n, 20.0, 0.05, 3.0)
    shrink = [sigma_data**2 / (sigma_data**2 + sigma**2) for sigma in sigmas]
    x = solver(lambda i, x: shrink[i] * x, torch.ones(1, dtype=torch.float64), sigmas)
    end = math.sqrt((sigma_data**2 + sigmas[-1]**2) / (sigma_data**2 + sigmas[0]**2))
    return abs(float(x) / (shrink[-1] * end) - 1)


@pytest.mark.parametrize('name, order', [('dpmpp', 2), ('heun', 2), ('adams', 3)])
def test_order_of_convergence(name, order):
    a, b = (gaussian_error(SOLVERS[name], n) for n in (100, 200))
    assert math.log2(a / b) > order - 0.3


@pytest.mark.parametrize('order', [1, 2, 3])
@pytest.mark.parametrize('correct', [False, True])
def test_a_polynomial_denoiser_is_solved_exactly(order, correct):
    """Adams of order k has no error for D a polynomial of degree k - 1 in ln sigma, if it starts from rest."""
    sigmas = noise_levels(9, 20.0, 0.05, 7.0)

    def denoised(i):
        t = max(0, i - order + 1)  # constant until there are enough values
        return sum((math.log(sigmas[t]) - math.log(sigmas[0]))**k for k in range(order)) if t else 1.0

    x = adams(lambda i, x: torch.full_like(x, denoised(i)), torch.zeros(1, dtype=torch.float64), sigmas, order, correct)
    assert x.item() == pytest.approx(denoised(8))
