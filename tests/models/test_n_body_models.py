r"""Models that read velocities and give positions."""
import pytest
import torch
from helpers.predictors import awake, close, turn_of

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig


@pytest.mark.parametrize('preset', ['n_body', 'n_body_direct'])
@pytest.mark.parametrize('velocity', ['merged', 'paired'])
def test_n_body_modes(velocity, preset):
    g = torch.Generator().manual_seed(0)
    fields = GeoMFormerConfig.preset(preset, velocity=velocity, channels=12, heads=2, num_layers=2, num_kernels=8)
    model = awake(GeoMFormer(fields).double().eval())
    pos, vel = (torch.randn(10, 3, generator=g, dtype=torch.float64) for _ in range(2))
    z, batch, turn = torch.tensor([1, -1, -1, 1, 1] * 2), torch.arange(2).repeat_interleave(5), turn_of(3)
    away = torch.tensor([1e3, 0, -20], dtype=torch.float64)
    scalars, out = model(z, pos, batch, vel=vel)
    assert scalars is None
    _, moved = model(z, pos @ turn.T + away, batch, vel=vel @ turn.T)
    close(moved, out @ turn.T + away)
    _, conjugate = model(-z, pos, batch, vel=vel)
    close(conjugate, out)  # opposite charges everywhere: the same forces
    _, faster = model(z, pos, batch, vel=1.5 * vel)
    assert (faster - out).abs().max() > 1e-2
    _, other = model(torch.tensor([1, 1, -1, 1, 1] * 2), pos, batch, vel=vel)
    assert (other - out).abs().max() > 1e-3


def test_time_steps_converge():
    """A quarter of the step, a quarter of the error: accelerations may depend on the velocity before the kick."""
    g = torch.Generator().manual_seed(0)
    pos, vel = (torch.randn(5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    fields = dict(channels=12, heads=2, num_kernels=8, radius=(0.5, 8.0))
    model = awake(GeoMFormer(GeoMFormerConfig.preset('n_body', **fields)).double().eval())
    found = {}
    for steps in (64, 128, 256, 512):
        other = GeoMFormer(GeoMFormerConfig.preset('n_body', time_steps=steps, **fields)).double().eval()
        other.load_state_dict(model.state_dict())
        with torch.no_grad():
            other.drift.fill_(0.2)
            found[steps] = other(torch.tensor([1, -1, -1, 1, 1]), pos, vel=vel)[1]
    coarse, fine = ((found[2 * n] - found[n]).norm() for n in (64, 256))
    assert 3.5 * fine < coarse and coarse > 1e-8
    with torch.no_grad():
        other.vector_head.out.weight.zero_()
        close(other(torch.tensor([1, -1, -1, 1, 1]), pos, vel=vel)[1], pos + 0.2 * vel)


def test_n_body_without_forces_is_a_straight_line():
    """The head starts small: positions move by a multiple of the velocity that is near the best one."""
    model = GeoMFormer(GeoMFormerConfig.preset('n_body_direct', channels=16, heads=2, num_kernels=8)).eval()
    g = torch.Generator().manual_seed(1)
    pos, vel = torch.randn(5, 3, generator=g), torch.randn(5, 3, generator=g)
    _, out = model(torch.tensor([1, 1, -1, 1, -1]), pos, vel=vel)
    assert (out - pos - 0.73 * vel).abs().mean() < 0.3 * (0.73 * vel).abs().mean()
