"""Solvers against flows that are known in closed form."""
import math
from itertools import pairwise

import pytest
import torch

from torch_geometric_inertial.nn.flow_solvers import SOLVERS, check_steps, noise_levels


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


@pytest.mark.parametrize('name', SOLVERS)
def test_both_are_of_second_order(name):
    a, b = (gaussian_error(SOLVERS[name], n) for n in (100, 200))
    assert math.log2(a / b) > 1.7


def test_errors():
    for solver, num_steps in (('dpmpp', 2), ('heun', 3)):
        check_steps(solver, num_steps)
        with pytest.raises(ValueError, match=rf"'num_steps' must be at least {num_steps} for '{solver}' \(got 1\)"):
            check_steps(solver, 1)
    with pytest.raises(ValueError, match=r"'solver' must be one of dpmpp, heun \(got 'euler'\)"):
        check_steps('euler', 8)
