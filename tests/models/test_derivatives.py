r"""Forces are derivatives of energies: right, smooth, finite, and there for training."""
import pytest
import torch
from helpers.predictors import MOLECULES, VARIANTS, close, cloud, run, small
from torch_geometric.data import Data

from torch_geometric_inertial import PaiNN
from torch_geometric_inertial.models.derivatives import energy_and_forces, energy_forces_stress


@pytest.mark.parametrize('name', [n for n in VARIANTS if n != 'literal'])
@pytest.mark.parametrize('molecule', ['H', 'H2', 'CO2', 'C6H6', 'CH4', 'one place', 'two in one place'])
def test_first_and_second_derivatives_are_finite(name, molecule):
    model = small(**VARIANTS[name])
    if molecule.endswith('place'):
        data = cloud(4, 0)
        data.pos[1 if molecule.startswith('two') else 0:] = data.pos[1]
        data.pos[2 if molecule.startswith('two') else 4:] += 1
    else:
        data = MOLECULES[molecule]
    pos = data.pos.clone().requires_grad_()
    scalars, vectors = model(data.z, pos, validate=False)
    first, = torch.autograd.grad(scalars.sum() + (vectors * vectors.detach().cos()).sum(), pos, create_graph=True)
    second, = torch.autograd.grad((first * data.pos.cos()).sum(), pos)
    for x in (scalars, vectors, first, second):
        assert x.isfinite().all()
    assert first.abs().max() < 1e4 and second.abs().max() < 1e8


def forces_along(model, data, path):
    return torch.stack([run(model, Data(z=data.z, pos=data.pos + step))[1] for step in path])


def largest_jump(model, data, direction, width=1e-6, count=9):
    """The largest change of the forces in a step of `width` Å on a straight path through `data`."""
    path = [direction * width * (k - count // 2 + 0.3) for k in range(count)]
    return float(forces_along(model, data, path).detach().diff(dim=0).abs().max())


def test_forces_are_smooth_where_an_atom_passes_the_centroid():
    data = MOLECULES['CO2']
    step = torch.zeros(3, 3, dtype=torch.float64)
    step[1, 1] = 1.5  # across the line
    assert largest_jump(small(vector_head='conservative'), data, step) < 1e-3
    assert largest_jump(small(vector_head='conservative', softening=0.0), data, step) > 1e-2  # why there is softening


def test_forces_are_smooth_where_eigenvalues_cross_and_atoms_leave():
    model = small(vector_head='conservative', cutoff=3.0)
    step = torch.zeros(5, 3, dtype=torch.float64)
    step[1:] = MOLECULES['CH4'].pos[1:] * torch.tensor([1.0, 1.0, 0.0])  # triply degenerate at the middle of the path
    assert largest_jump(model, MOLECULES['CH4'], step) < 1e-4
    pair = Data(z=torch.tensor([6, 8, 1]), pos=torch.tensor([[0.0, 0, 0], [3, 0, 0], [0.5, 1, 0]]).double())
    step = torch.zeros(3, 3, dtype=torch.float64)
    step[1, 0] = 1.0
    assert largest_jump(model, pair, step) < 1e-4
    energies = [float(run(model, Data(z=pair.z, pos=pair.pos + step * h))[0]) for h in (-1e-4, 1e-4)]
    assert abs(energies[0] - energies[1]) < 1e-3


@pytest.mark.parametrize('fields', [dict(), dict(cutoff=3.0, equivariant_init='neighbors', directional=True)])
def test_forces_are_the_negative_gradient(fields):
    model, data = small(vector_head='conservative', **fields), cloud(6, 4)
    forces = run(model, data)[1]
    step = 1e-5
    for atom, axis in ((0, 0), (3, 1), (5, 2)):
        ends = []
        for sign in (1, -1):
            pos = data.pos.clone()
            pos[atom, axis] += sign * step
            ends.append(run(model, Data(z=data.z, pos=pos))[0])
        slope = float((ends[0] - ends[1]) / (2 * step))
        assert -slope == pytest.approx(float(forces[atom, axis]), rel=1e-6, abs=1e-8)
    assert forces.sum(0).abs().max() < 1e-10
    assert torch.linalg.cross(data.pos, forces).sum(0).abs().max() < 1e-10


def test_conservative_forces_have_a_gradient_for_training_and_none_when_not_needed():
    model, data = small(vector_head='conservative'), cloud(5, 0)
    energy, forces = run(model, data)
    grads = torch.autograd.grad(forces.square().sum(), model.parameters(), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in grads if g is not None) > 0
    with torch.no_grad():
        other_energy, other_forces = run(model, data)
    assert not other_energy.requires_grad and not other_forces.requires_grad
    close(other_forces, forces)
    energy_only, nothing = run(model, data, vectors=False)
    assert nothing is None and torch.equal(energy_only, energy)


def test_energy_is_kept_by_newton_on_a_random_surface():
    """The forces are those of the energy, so a symplectic integrator keeps it; drift falls with the step."""
    model = small(vector_head='conservative', cutoff=4.0, num_layers=1)
    data = cloud(5, 3)

    def drift(step, count):
        pos, vel = data.pos.clone(), torch.zeros_like(data.pos)
        with torch.no_grad():
            energy, force = model(data.z, pos)
            start, worst = float(energy), 0.0
            for _ in range(count):
                vel = vel + 0.5 * step * force
                pos = pos + step * vel
                energy, force = model(data.z, pos)
                vel = vel + 0.5 * step * force
                worst = max(worst, abs(float(energy) + 0.5 * float(vel.square().sum()) - start))
        return worst, float(vel.square().sum())
    coarse, _ = drift(0.08, 30)
    fine, motion = drift(0.04, 60)
    assert motion > 1e-4 and fine < 0.02 * motion
    assert fine < 0.4 * coarse


def springs(pos, cell=None):
    """Energies [2] of two molecules of three atoms: half the squared distances between their atoms."""
    apart = pos.view(2, 3, 1, 3) - pos.view(2, 1, 3, 3)
    return 0.25 * apart.square().sum((1, 2, 3))


def test_the_parts_take_any_energy():
    pos = torch.randn(6, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    batch, cell = torch.arange(2).repeat_interleave(3), 2 * torch.eye(3, dtype=torch.float64).expand(2, 3, 3)
    relative = pos - pos.view(2, 3, 3).mean(1)[batch]
    energy, forces = energy_and_forces(springs, pos)
    close(forces, -3 * relative)
    pbc = torch.tensor([[True, True, True], [False, False, False]])
    same_energy, same_forces, stress = energy_forces_stress(springs, pos, cell, pbc, batch)
    close(same_energy, energy)
    close(same_forces, forces)
    virial = 3 * torch.einsum('ia,ib->ab', relative[:3], relative[:3]) / 8  # a homogeneous strain, over the volume
    close(stress[0], virial)
    assert not stress[1].any()


def test_forces_of_a_sum_of_models():
    one, other, data = small(vector_head='conservative'), small(1, vector_head='conservative'), cloud(5, 1)

    def energy_of(pos):
        return sum(model(data.z, pos, vectors=False)[0] for model in (one, other))
    _, forces = energy_and_forces(energy_of, data.pos)
    close(forces, run(one, data)[1] + run(other, data)[1])


@pytest.mark.parametrize('head', ['conservative', 'direct'])
def test_inference_mode(head):
    """Where nothing has derivatives, forces are the same, for arguments made inside and outside."""
    model, data = small(vector_head=head, cutoff=4.0, equivariant_init='neighbors'), cloud(5, 1)
    expected = [x.detach() for x in run(model, data)]
    with torch.inference_mode():
        made_inside = Data(z=data.z.clone(), pos=data.pos.clone())
        for given in (data, made_inside):
            for a, b in zip(run(model, given), expected, strict=True):
                close(a, b)
    with torch.no_grad():
        close(run(model, made_inside)[1], expected[1])
    if head == 'conservative':
        cell, pbc = 9 * torch.eye(3, dtype=torch.float64), torch.ones(3, dtype=torch.bool)
        stress = model.stress(data.z, data.pos, cell=cell, pbc=pbc)[2].detach()
        with torch.inference_mode():
            close(model.stress(data.z, data.pos, cell=cell, pbc=pbc)[2], stress)


def test_a_model_made_in_inference_mode_is_refused():
    with torch.inference_mode():
        model = PaiNN(channels=8, num_layers=1, vector_head='conservative')
        with pytest.raises(ValueError, match=r'this PaiNN was made under torch.inference_mode'):
            model(torch.tensor([6]), torch.zeros(1, 3))
