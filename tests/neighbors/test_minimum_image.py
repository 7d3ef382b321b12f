import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.neighbors.minimum_image import minimum_image

CUBE = 10 * torch.eye(3, dtype=torch.float64).expand(1, 3, 3)
PERIODIC = torch.ones(1, 3, dtype=torch.bool)


def one(x, cell=CUBE, pbc=PERIODIC):
    return minimum_image(torch.tensor([x], dtype=torch.float64), cell, pbc, torch.zeros(1, dtype=torch.long))[0]


@pytest.mark.parametrize('x, expected', [
    ([9.0, -9.0, 4.0], [-1.0, 1.0, 4.0]), ([5.0, -5.0, 0.0], [5.0, 5.0, 0.0]), ([31.0, -26.0, 10.0], [1.0, 4.0, 0.0]),
])
def test_by_hand(x, expected):
    torch.testing.assert_close(one(x), torch.tensor(expected, dtype=torch.float64))


def test_axes_without_a_period_stay():
    pbc = torch.tensor([[True, False, True]])
    torch.testing.assert_close(one([9.0, 9.0, 9.0], pbc=pbc), torch.tensor([-1.0, 9.0, -1.0], dtype=torch.float64))
    none = torch.zeros(1, 3, dtype=torch.bool)
    assert one([99.0, 9.0, 9.0], torch.zeros(1, 3, 3, dtype=torch.float64), none).tolist() == [99.0, 9.0, 9.0]


@settings(deadline=None)
@given(seed=st.integers(0, 10**6))
def test_any_translation_of_the_lattice_comes_off(seed):
    g = torch.Generator().manual_seed(seed)
    cell = 5 * torch.eye(3, dtype=torch.float64) + torch.randn(3, 3, 3, generator=g, dtype=torch.float64)
    pbc = torch.rand(3, 3, generator=g) < 0.7
    batch = torch.tensor([0, 0, 1, 2, 2])
    x = torch.randn(5, 3, generator=g, dtype=torch.float64)
    shift = torch.randint(-3, 4, (5, 3), generator=g) * pbc[batch]
    moved = x + (shift.double().unsqueeze(1) @ cell[batch]).squeeze(1)
    out = minimum_image(moved, cell, pbc, batch)
    torch.testing.assert_close(out, minimum_image(x, cell, pbc, batch), rtol=0, atol=1e-10)
    fraction = (out.unsqueeze(1) @ torch.linalg.pinv(cell * pbc.unsqueeze(-1))[batch]).squeeze(1)
    assert float(fraction.abs().max()) <= 0.5 + 1e-10


def test_derivatives_pass_through():
    x = torch.tensor([[7.0, 1.0, -8.0]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(lambda x: minimum_image(x, CUBE, PERIODIC, torch.zeros(1, dtype=torch.long)), x)


@pytest.mark.parametrize('change, message', [
    (dict(cell=torch.eye(3)), r"'cell' must be \[B, 3, 3\] and 'pbc' bool \[B, 3\] \(got \[3, 3\], \[1, 3\]"),
    (dict(pbc=torch.ones(1, 3)), r"and torch.float32\)"),
    (dict(batch=torch.zeros(3, dtype=torch.long)), r"'difference' must be \[N, 3\] and 'batch' \[N\]"),
])
def test_bad_shapes(change, message):
    arguments = dict(difference=torch.zeros(2, 3), cell=CUBE, pbc=PERIODIC, batch=torch.zeros(2, dtype=torch.long))
    with pytest.raises(ValueError, match=message):
        minimum_image(**arguments | change)
