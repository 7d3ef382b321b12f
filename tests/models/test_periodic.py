r"""The laws of periodic systems: the lattice and nothing else decides, whatever cell describes it."""
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from helpers.periodic import ALL, CUTOFF, SLAB, crystal, geomformer, ghostly, predict
from helpers.predictors import awake, close, cloud, run
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import PaiNN, TorchMDNet
from torch_geometric_inertial.testing import random_rotation


def rival(kind, **fields):
    base = dict(channels=8, num_layers=2, num_kernels=5, cutoff=CUTOFF, elements=(1, 6, 7, 8),
                vector_head='conservative')
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return awake(kind(**base | (dict(heads=2) if kind is TorchMDNet else {}) | fields).double().eval())


MODELS = {
    'paper': geomformer,
    'edges': lambda **fields: geomformer(dense_size=0, **fields),
    'directional': lambda **fields: geomformer(directional=True, node_rbf_sum=True, **fields),
    'direct': lambda **fields: geomformer(**dict(vector_head='direct') | fields),
    'PaiNN': lambda **fields: rival(PaiNN, **fields),
    'TorchMDNet': lambda **fields: rival(TorchMDNet, **fields),
}


@pytest.mark.parametrize('pbc', [ALL, SLAB, torch.tensor([False, True, False])], ids=['bulk', 'slab', 'wire'])
@pytest.mark.parametrize('name', MODELS)
def test_the_home_cell_does_not_matter(name, pbc):
    model, data = MODELS[name](), crystal(pbc=pbc)
    energy, forces = predict(model, data)
    assert forces.abs().max() > 1e-3
    moves = torch.tensor([[1, 0, 0], [-2, 3, 1], [0, 0, 0], [0, -1, 4]]) * pbc
    moved = data.pos + moves.double() @ data.cell
    for a, b in zip(predict(model, data, pos=moved), (energy, forces), strict=True):
        close(a, b)
    skewed = data.cell.clone()
    skewed[1] += 2 * data.cell[0] * pbc[0] * pbc[1]  # the same lattice
    skewed[~pbc] = 0  # what is no period says nothing
    for a, b in zip(predict(model, data, cell=skewed), (energy, forces), strict=True):
        close(a, b)


@pytest.mark.parametrize('name', MODELS)
def test_pose_numbering_and_translation(name):
    model, data = MODELS[name](), crystal(5, pbc=SLAB)
    energy, forces = predict(model, data)
    order, turn = torch.tensor([3, 0, 4, 1, 2]), -random_rotation(5)
    away = torch.tensor([30.0, -7, 2], dtype=torch.float64)
    other = Data(z=data.z[order], pos=data.pos[order] @ turn.T + away, cell=data.cell @ turn.T, pbc=data.pbc)
    other_energy, other_forces = predict(model, other)
    close(other_energy, energy)
    close(other_forces, forces[order] @ turn.T, 1e-9)


@pytest.mark.parametrize('axis', [0, 1, 2])
@pytest.mark.parametrize('name', MODELS)
def test_two_cells_have_twice_the_energy(name, axis):
    model, data = MODELS[name](), crystal()
    energy, forces = predict(model, data)
    double = data.cell.clone()
    double[axis] *= 2
    other_energy, other_forces = model(data.z.repeat(2), torch.cat([data.pos, data.pos + data.cell[axis]]), cell=double,
                                       pbc=ALL)
    close(other_energy, 2 * energy)
    close(other_forces, forces.repeat(2, 1), 1e-9)


@pytest.mark.parametrize('name', MODELS)
def test_a_large_box_is_no_box(name):
    model, data = MODELS[name](), cloud(5, 2)
    for a, b in zip(predict(model, data, cell=40 * torch.eye(3).double(), pbc=ALL), run(model, data), strict=True):
        close(a, b)
    none = torch.zeros(3, dtype=torch.bool)
    for a, b in zip(predict(model, data, cell=0.0 * torch.eye(3).double(), pbc=none), run(model, data), strict=True):
        close(a, b)


@pytest.mark.parametrize('name', MODELS)
def test_molecules_slabs_and_crystals_in_one_batch(name):
    model, systems = MODELS[name](), [crystal(4), cloud(6, 1), crystal(3, 1, SLAB), crystal(1), cloud(1, 0)]
    none, no_cell = torch.zeros(3, dtype=torch.bool), torch.zeros(3, 3, dtype=torch.float64)
    alone = [predict(model, s) if 'cell' in s else run(model, s) for s in systems]
    batch = torch.repeat_interleave(torch.tensor([len(s.z) for s in systems]))
    energy, forces = model(
        torch.cat([s.z for s in systems]), torch.cat([s.pos for s in systems]), batch,
        cell=torch.stack([s.get('cell', no_cell) for s in systems]), pbc=torch.stack([s.get('pbc', none)
                                                                                     for s in systems]))
    close(energy, torch.cat([e for e, _ in alone]))
    close(forces, torch.cat([f for _, f in alone]))


@pytest.mark.parametrize('directional', [False, True])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_one_score_for_all_images_is_softmax_over_images(size, directional):
    """With both derivatives: energies, gradients of positions and cell, and gradients of those."""
    fields, data, results = dict(directional=directional, vector_head='direct', node_rbf_sum=True), crystal(size), []
    for dense_size in (100, 0):
        pos, cell = data.pos.clone().requires_grad_(), data.cell.clone().requires_grad_()
        energy, vectors = geomformer(dense_size=dense_size, **fields)(data.z, pos, cell=cell, pbc=ALL)
        first = torch.autograd.grad(energy.sum() + vectors.sin().sum(), [pos, cell], create_graph=True)
        second = torch.autograd.grad(sum(x.sin().sum() for x in first), [pos, cell])
        results.append((energy, vectors, *first, *second))
    for a, b in zip(*results, strict=True):
        close(a, b, 1e-10)


def test_an_atom_sees_its_own_images():
    """One atom in its cell is eight in the doubled one, and its energy depends on the lattice constant."""
    for name in ('directional', 'PaiNN', 'TorchMDNet'):
        model, energies = MODELS[name](), []
        for a in (1.6, 2.0):
            cell = a * torch.eye(3, dtype=torch.float64)
            energy, _ = model(torch.tensor([6]), torch.zeros(1, 3).double(), cell=cell, pbc=ALL)
            eight = a * torch.cartesian_prod(*[torch.arange(2.0)] * 3).double()
            close(model(torch.full((8, ), 6), eight, cell=2 * cell, pbc=ALL)[0], 8 * energy)
            energies.append(energy)
        assert (energies[0] - energies[1]).abs() > 1e-3


def test_a_mean_over_equal_neighbors_knows_no_density():
    """Why a force field for elements wants sums: all neighbors' values are equal, and so is any mean of them."""
    lattices = [a * torch.eye(3, dtype=torch.float64) for a in (1.6, 2.0)]
    for fields, seen in ((dict(), False), (dict(node_rbf_sum=True), True)):
        model = geomformer(**fields)
        one, other = (model(torch.tensor([6]), torch.zeros(1, 3).double(), cell=cell, pbc=ALL)[0] for cell in lattices)
        assert ((one - other).abs() > 1e-4) == seen


def test_images_that_the_bias_holds_are_those_of_the_definition():
    """The log-sum-exp over lattice translations, against a loop over them."""
    model, data = geomformer(), crystal(2)
    atoms = model.prepare(data.z, data.pos, cell=data.cell, pbc=ALL)
    encoding = model.encoding[0]
    bias = torch.stack(encoding(atoms.pairs).bias).view(4, 2, 2, 2)  # kinds, heads, i, j
    total = torch.zeros_like(bias)
    for shift in torch.cartesian_prod(*[torch.arange(-4.0, 5)] * 3).double():
        for i in range(2):
            for j in range(2):
                r = (data.pos[j] + shift @ data.cell - data.pos[i]).norm()
                if r < CUTOFF:
                    x = r / CUTOFF
                    phi = 1 - 10 * x ** 3 + 15 * x ** 4 - 6 * x ** 5
                    kind = atoms.types[i] * len(model.config.elements) + atoms.types[j]
                    hidden = torch.nn.functional.gelu(encoding.hidden(encoding.basis(r, kind)))
                    total[:, :, i, j] += phi * encoding.out(hidden).view(4, 2).exp()
    close(bias, total.log())


@pytest.mark.parametrize('name', ['paper', 'edges', 'directional', 'PaiNN', 'TorchMDNet'])
def test_forces_are_the_negative_gradient(name):
    model, data, step = MODELS[name](), crystal(), 1e-5
    forces = predict(model, data)[1].detach()
    for atom, axis in ((0, 0), (3, 2)):
        ends = []
        for sign in (1, -1):
            pos = data.pos.clone()
            pos[atom, axis] += sign * step
            ends.append(float(predict(model, data, pos=pos)[0].detach()))
        assert (ends[1] - ends[0]) / (2 * step) == pytest.approx(float(forces[atom, axis]), rel=1e-5, abs=1e-8)
    assert forces.sum(0).abs().max() < 1e-10


@pytest.mark.parametrize('name', ['paper', 'edges', 'directional', 'PaiNN', 'TorchMDNet'])
def test_energies_are_smooth_where_images_leave(name):
    """A lattice constant passes the cutoff: six images of each atom leave at once."""
    model, energies, slopes = MODELS[name](), [], []
    for h in (-2e-4, -1e-4, 0.0, 1e-4, 2e-4):
        a = torch.tensor((CUTOFF + h), dtype=torch.float64, requires_grad=True)
        z, pos = torch.tensor([6, 8]), torch.tensor([[0.0, 0, 0], [1.1, 0.3, 0.2]]).double()
        energy, _ = model(z, pos, cell=a * torch.eye(3).double(), pbc=ALL, vectors=False)
        slopes.append(float(torch.autograd.grad(energy.sum(), a)[0]))
        energies.append(float(energy.detach()))
    assert max(abs(b - a) for a, b in pairwise(energies)) < 1e-3
    assert max(abs(b - a) for a, b in pairwise(slopes)) < 1e-2


@pytest.mark.parametrize('pbc', [ALL, SLAB], ids=['bulk', 'slab'])
@pytest.mark.parametrize('name', ['paper', 'edges', 'directional', 'PaiNN', 'TorchMDNet'])
def test_stress_is_the_derivative_by_strain(name, pbc):
    model, data, step = MODELS[name](), crystal(pbc=pbc), 1e-5
    energy, forces, stress = (x.detach() for x in model.stress(data.z, data.pos, cell=data.cell, pbc=pbc))
    for a, b in zip((energy, forces), predict(model, data), strict=True):
        close(a, b)
    assert stress.shape == (1, 3, 3) and stress.abs().max() > 1e-4
    torch.testing.assert_close(stress, stress.mT)
    volume = float(torch.linalg.det(data.cell).abs())
    for i, j in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        ends = []
        for sign in (1, -1):
            strain = torch.eye(3, dtype=torch.float64)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            ends.append(float(predict(model, data, pos=data.pos @ strain, cell=data.cell @ strain)[0].detach()))
        assert (ends[0] - ends[1]) / (2 * step * volume) == pytest.approx(float(stress[0, i, j]), rel=1e-5, abs=1e-9)


def test_stress_of_a_batch_turns_with_the_cells():
    model, turn = geomformer(), random_rotation(3)
    systems = [crystal(4), crystal(3, 1, SLAB), cloud(5, 1)]
    z, pos, none = torch.cat([s.z for s in systems]), torch.cat([s.pos for s in systems]), torch.zeros(3).bool()
    cell = torch.stack([systems[0].cell, systems[1].cell, torch.zeros(3, 3).double()])
    pbc, batch = torch.stack([ALL, SLAB, none]), torch.repeat_interleave(torch.tensor([4, 3, 5]))
    energy, forces, stress = model.stress(z, pos, batch, cell=cell, pbc=pbc)
    other = model.stress(z, pos @ turn.T, batch, cell=cell @ turn.T, pbc=pbc)
    for a, b in zip(other, (energy, forces @ turn.T, turn @ stress @ turn.T), strict=True):
        close(a, b, 1e-9)
    assert stress[1].abs().max() > 1e-4 and not stress[2].any()  # a molecule has no volume
    alone = model.stress(systems[0].z, systems[0].pos, cell=cell[0], pbc=ALL)[2]
    close(stress[:1], alone)


def test_stress_can_be_trained_on():
    model, data = geomformer(), crystal()
    stress = model.stress(data.z, data.pos, cell=data.cell, pbc=ALL)[2]
    grads = torch.autograd.grad(stress.square().sum(), model.parameters(), allow_unused=True)
    assert sum(float(g.abs().sum()) for g in grads if g is not None) > 0
    with torch.no_grad():
        other = model.stress(data.z, data.pos, cell=data.cell, pbc=ALL)
    assert not any(x.requires_grad for x in other)
    close(other[2], stress)


def test_predicted_positions_stay_beside_their_atoms():
    """Whichever image of an atom is given, that one is moved."""
    data = crystal()
    model, direct = geomformer(vector_head='position'), geomformer(vector_head='direct')
    away = torch.tensor([[0, 0, 0], [1, 0, -2], [0, 3, 0], [0, 0, 0]]).double() @ data.cell
    for pos in (data.pos, data.pos + away):
        close(predict(model, data, pos=pos)[1], pos + predict(direct, data)[1])


def test_periods_strung_together_as_pyg_does():
    model, data = geomformer(), Batch.from_data_list([
        Data(z=s.z, pos=s.pos, cell=s.cell.unsqueeze(0), pbc=s.pbc) for s in (crystal(3), crystal(2, 1, SLAB))])
    assert data.pbc.shape == (6, )
    one, other = (model(data.z, data.pos, data.batch, cell=data.cell, pbc=pbc)
                  for pbc in (data.pbc, torch.stack([ALL, SLAB])))
    assert torch.equal(one[0], other[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize('name', MODELS)
def test_bfloat16_is_near(name):
    model, data = MODELS[name]().float(), crystal()
    data.pos, data.cell = data.pos.float(), data.cell.float()
    exact = predict(model, data)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = predict(model, data)
        (rough[0].sum() + rough[1].square().sum()).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    for a, b in zip(rough, exact, strict=True):
        close(a, b, 0.15)


@pytest.mark.gpu
@pytest.mark.parametrize('name', ['paper', 'edges', 'directional', 'PaiNN', 'TorchMDNet'])
def test_the_gpu_agrees(name):
    model, data = MODELS[name](), crystal(5)
    expected = model.stress(data.z, data.pos, cell=data.cell, pbc=ALL)
    data = data.to('cuda')
    for a, b in zip(model.to('cuda').stress(data.z, data.pos, cell=data.cell, pbc=data.pbc), expected, strict=True):
        close(a.cpu(), b, 1e-9)


def test_real_surfaces(shared_data):
    """Adsorbates on slabs, with vacuum: wrapped otherwise, doubled, together."""
    arrays = np.load(shared_data / 'oc20_debug_traj' / 'oc20_30.npz')
    smallest = np.diff(arrays['ptr']).argsort()[:3]
    systems = [Data(z=torch.tensor(arrays['z'][a:b]).long(), pos=torch.tensor(arrays['pos_initial'][a:b]),
                    cell=torch.tensor(arrays['cell'][k]), pbc=ALL)
               for k, a, b in zip(smallest, arrays['ptr'][smallest], arrays['ptr'][smallest + 1], strict=True)]
    model = geomformer(elements=tuple(sorted({int(z) for s in systems for z in s.z})), cutoff=5.0)
    alone = [predict(model, s) for s in systems]
    for s, (energy, forces) in zip(systems, alone, strict=True):
        moves = torch.randint(-2, 3, (len(s.z), 3), generator=torch.Generator().manual_seed(0)).double()
        for a, b in zip(predict(model, s, pos=s.pos + moves @ s.cell), (energy, forces), strict=True):
            close(a, b, 1e-9)
        double = s.cell * torch.tensor([[1.0], [2], [1]])
        twice = model(s.z.repeat(2), torch.cat([s.pos, s.pos + s.cell[1]]), cell=double, pbc=ALL)
        close(twice[0], 2 * energy, 1e-9)
    batch = torch.repeat_interleave(torch.tensor([len(s.z) for s in systems]))
    energy, _ = model(torch.cat([s.z for s in systems]), torch.cat([s.pos for s in systems]), batch,
                      cell=torch.stack([s.cell for s in systems]), pbc=ALL)
    close(energy, torch.cat([e for e, _ in alone]))


CRYSTAL = crystal()


def ask(model=geomformer, method='forward', **changes):
    inputs = dict(z=CRYSTAL.z, pos=CRYSTAL.pos, cell=CRYSTAL.cell, pbc=ALL) | changes
    return getattr(model if isinstance(model, torch.nn.Module) else model(), method)(**inputs)


@pytest.mark.parametrize('bad, message', [
    (lambda: ask(pbc=None), r"'cell' and 'pbc' must be given together \(got no 'pbc'\)"),
    (lambda: ask(cell=None), r"'cell' and 'pbc' must be given together \(got no 'cell'\)"),
    (lambda: ask(cell=CRYSTAL.cell[:2]), r"'cell' must be floating point \[1, 3, 3\] or \[3, 3\] \(got \[2, 3\], "),
    (lambda: ask(cell=CRYSTAL.cell.repeat(2, 1, 1)), r"'cell' must be floating point .* \(got \[2, 3, 3\]"),
    (lambda: ask(cell=torch.eye(3).long()), r"'cell' must be floating point .* torch.int64\)"),
    (lambda: ask(cell=CRYSTAL.cell * math.nan), r"'cell' must be finite \(got 9 entries that are not\)"),
    (lambda: ask(pbc=torch.ones(3)), r"'pbc' must be bool \[1, 3\] or \[3\] \(got \[3\], torch.float32\)"),
    (lambda: ask(pbc=torch.ones(2, 3).bool()), r"'pbc' must be bool \[1, 3\] or \[3\] \(got \[2, 3\], torch.bool\)"),
    (lambda: ask(cell=CRYSTAL.cell[[0, 1, 1]]), r"'cell' must have independent lattice vectors along the periodic"),
    (lambda: ask(cell=0 * CRYSTAL.cell), r"'cell' must have independent lattice vectors along the periodic"),
    (lambda: ask(edge_index=torch.tensor([[0], [1]])), r"'edge_index' must not be given with a 'cell'"),
    (lambda: ask(geomformer(cutoff=None)), r"periodic systems need a 'cutoff' \(this model has none\)"),
    (lambda: ask(geomformer(equivariant_init='centroid')), r"need equivariant_init='neighbors': .* \(got 'centroid'\)"),
    (lambda: ask(pos=torch.cat([CRYSTAL.pos[:3], CRYSTAL.pos[:1] + CRYSTAL.cell[1]])),
     r"'pos' must not hold two atoms of one molecule closer than 0.4 Å"),  # an image in the place of an atom
    (lambda: ask(ghostly), r"'cutoff' must not exceed half of the cell, which is .* Å across, .* \(got 3.2 Å\)"),
    (lambda: ask(ghostly(cutoff=None)), r"periodic systems need a 'cutoff'"),
    (lambda: ask(MODELS['direct'], 'stress'), r"'vector_head' must be 'conservative' \(got 'direct'\)"),
    (lambda: ask(ghostly, 'stress'), r"stress needs .*: 'periodic' must be 'exact' \(got 'ghost'\)"),
    (lambda: ask(method='stress', cell=CRYSTAL.cell * torch.tensor([[1.0], [1], [0]]), pbc=SLAB),
     r"'cell' of a periodic system must have a volume, in which the stress is \(got 0 Å³\)"),
    (lambda: geomformer(periodic='maybe'), r"'periodic' must be one of exact, ghost \(got 'maybe'\)"),
], ids=range(20))
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()
