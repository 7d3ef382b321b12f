r"""Newton's equation under given accelerations: steps of equal length, and steps that shrink where particles meet."""
import pytest
import torch
from helpers.predictors import awake, close, turn_of

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.models.atom_inputs import AtomReader
from torch_geometric_inertial.models.learned_dynamics import HARDEST, equal_steps, shrinking_steps
from torch_geometric_inertial.ops.segment import segment_sum

READER = AtomReader(GeoMFormerConfig.preset('n_body'), 10**9, 'GeoMFormer')
ONE = torch.tensor(1.0, dtype=torch.float64)


def particles(pos, vel, batch=None, z=None, **kwargs):
    pos, vel = (torch.tensor(x, dtype=torch.float64) if not isinstance(x, torch.Tensor) else x for x in (pos, vel))
    return READER(torch.ones(len(pos)).long() if z is None else z, pos, batch, weight=ONE, vel=vel, **kwargs)


class Gravity:
    """Everything attracts everything; counts its evaluations."""
    def __init__(self):
        self.calls = 0

    def __call__(self, atoms):
        self.calls += 1
        return atoms.pairs.vector_sum((1 / atoms.pairs.distance.square().clamp(min=1e-12)).unsqueeze(-1)).squeeze(-1)


def two_body(eccentricity, periods):
    """Two bodies at the far end of an ellipse of semi-major axis 1, with a period that lasts T = 1 / periods."""
    far = 1 + eccentricity
    speed = (2 * (1 - eccentricity) / far) ** 0.5  # of one relative to the other; their masses are 1
    time = torch.tensor(periods * 2 * torch.pi / 2 ** 0.5, dtype=torch.float64)
    return particles([[-far / 2, 0, 0], [far / 2, 0, 0]], [[0, -speed / 2, 0], [0, speed / 2, 0]]), time


def test_two_bodies_return_after_a_period_however_close_they_came():
    """Equal steps lose the orbit of eccentricity 0.99, which comes within 0.01; shrinking ones follow it."""
    atoms, time = two_body(0.99, 1)
    law = Gravity()
    error = (shrinking_steps(law, atoms, time, 400, 0.025) - atoms.pos).norm()
    assert law.calls < 300 and error < 0.05
    assert (equal_steps(Gravity(), atoms, time, 400) - atoms.pos).norm() > 10 * error


def test_half_the_step_has_a_quarter_of_the_error():
    atoms, time = two_body(0.6, 0.8)
    fine = shrinking_steps(Gravity(), atoms, time, 10**5, 1e-3)
    coarse, half = ((shrinking_steps(Gravity(), atoms, time, 10**5, share) - fine).norm() for share in (0.04, 0.02))
    assert 3 < coarse / half < 5


def test_each_molecule_has_steps_of_its_own():
    g = torch.Generator().manual_seed(0)
    batch = torch.tensor([0, 0, 1, 1, 1, 2, 3, 3])
    pos, vel = (torch.randn(8, 3, generator=g, dtype=torch.float64) for _ in range(2))
    pos[3] = pos[2] + 0.05
    law = Gravity()
    together = shrinking_steps(law, particles(pos, vel, batch), ONE, 40, 0.5)
    calls = []
    for k in range(4):
        own, alone = batch == k, Gravity()
        close(together[own], shrinking_steps(alone, particles(pos[own], vel[own]), ONE, 40, 0.5))
        calls.append(alone.calls)
    assert law.calls == max(calls) and min(calls) == 1 < max(calls)


def test_without_forces_they_go_straight_to_the_end_of_time():
    g = torch.Generator().manual_seed(1)
    pos, vel = (torch.randn(5, 3, generator=g, dtype=torch.float64) for _ in range(2))
    atoms, time = particles(pos, vel), torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    out = shrinking_steps(lambda a: torch.zeros_like(a.pos), atoms, time, 50, 0.05)
    close(out, atoms.pos + 0.7 * vel)
    weight = torch.randn(5, 3, generator=g, dtype=torch.float64)
    (out * weight).sum().backward()
    close(time.grad, (weight * vel).sum())


def test_the_last_step_that_is_allowed_takes_what_is_left():
    atoms, time = two_body(0.5, 0.1)
    law = Gravity()
    out = shrinking_steps(law, atoms, time, 1, 1e-3)
    close(out, equal_steps(lambda a: Gravity()(a), atoms, time, 1), 1e-2)
    assert law.calls == 1
    law = Gravity()
    shrinking_steps(law, atoms, time, 7, 1e-3)
    assert law.calls == 7


def test_a_wrong_acceleration_does_not_throw_a_particle_out_of_the_data():
    atoms = particles([[-1.0, 0, 0], [1, 0, 0]], [[0.0, 0, 0], [0, 0, 0]])
    out = shrinking_steps(lambda a: 1e9 * torch.ones_like(a.pos), atoms, ONE, 1, 0.5)
    close((out - atoms.pos).norm(dim=-1), torch.full((2, ), HARDEST / 2, dtype=torch.float64))


def test_given_pairs_stay_with_their_molecules():
    pos = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 2, 0]], dtype=torch.float64)
    batch, edges = torch.tensor([0, 0, 1, 1, 1]), torch.tensor([[0, 1, 2, 3, 3, 4], [1, 0, 3, 2, 4, 3]])
    offset = torch.tensor([[0.0], [0], [0.5], [-0.5], [0], [0]], dtype=torch.float64).expand(-1, 3)
    atoms = particles(pos, torch.zeros_like(pos), batch, edge_index=edges, edge_offset=offset)
    some = atoms.subset(torch.tensor([False, True]))
    assert some.batch.tolist() == [0, 0, 0] and some.layout.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]]
    close(some.layout.edge_offset, offset[2:])

    def sums(a):
        return segment_sum(a.pairs.distance.unsqueeze(-1), a.pairs.edges.ptr)
    close(sums(some), sums(atoms)[2:])
    close(some.pos, atoms.pos[2:])
    close(some.center, atoms.center[1:])


@pytest.mark.parametrize('share', [0.3, 1.0])
def test_a_model_of_shrinking_steps_turns_with_its_input(share):
    g = torch.Generator().manual_seed(0)
    fields = GeoMFormerConfig.preset('n_body', channels=12, heads=2, num_kernels=8, time_steps=30, step_share=share)
    model = awake(GeoMFormer(fields).double().eval())
    pos, vel = (torch.randn(10, 3, generator=g, dtype=torch.float64) for _ in range(2))
    z, batch, turn = torch.tensor([1, -1, -1, 1, 1] * 2), torch.arange(2).repeat_interleave(5), turn_of(3)
    out = model(z, pos, batch, vel=vel)[1]
    close(model(z, pos @ turn.T + 3, batch, vel=vel @ turn.T)[1], out @ turn.T + 3)
    out.square().sum().backward()
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in model.parameters())
    equal = GeoMFormer(GeoMFormerConfig.preset('n_body', channels=12, heads=2, num_kernels=8, time_steps=30)).double()
    equal.load_state_dict(model.state_dict())
    assert (equal.eval()(z, pos, batch, vel=vel)[1] - out).abs().max() > 1e-6
