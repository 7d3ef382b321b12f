r"""The laws of GeoMFormer: symmetry, batches, derivatives, paths, sizes."""
import dataclasses
import json
import math

import pytest
import torch
from geomformer_laws import MOLECULES, awake, batch_of, close, cloud, run, small
from hypothesis import given
from hypothesis import strategies as st
from torch._dynamo.utils import counters
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.models import geomformer
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.testing import random_rotation

#: Every option that changes what is computed.
VARIANTS = {
    'paper': dict(),
    'literal': dict(bias_shared_heads=True, normalised_kernels=True, softening=0.0, hidden_channels=7),
    'more': dict(equivariant_init='both', node_rbf_sum=True, directional=True, bias_per_layer=True, radial='log',
                 head_norm='none', zero_net=True),
    'local': dict(equivariant_init='neighbours', cutoff=3.0, directional=True, equ_norm='rms', head_norm='rms'),
    'sequential': dict(composition='sequential', equ_norm='none', scalar_head='mean', num_scalars=2),
    'conjugate': dict(conjugation=True, inv_norm=False, structural_encoding=False),
    'less': dict(attentions=('inv_cross', 'equ_cross')),
    'conservative': dict(vector_head='conservative'),
}
SIZES = (1, 2, 3, 7, 21)


def turn_of(seed):
    return random_rotation(seed) * (-1 if seed % 2 else 1)


@pytest.mark.parametrize('name', VARIANTS)
def test_scalars_stay_and_vectors_turn(name):
    model = small(**VARIANTS[name])
    data = batch_of(*(cloud(n, n) for n in SIZES))
    scalars, vectors = run(model, data)
    assert vectors.abs().max() > 1e-3 and scalars.std() > 1e-3
    for seed in range(4):
        turn = turn_of(seed)
        turned = Data(z=data.z, pos=data.pos @ turn.T, batch=data.batch)
        other_scalars, other_vectors = run(model, turned)
        close(other_scalars, scalars)
        close(other_vectors, vectors @ turn.T, 1e-9)


@given(seed=st.integers(0, 10**6), size=st.sampled_from(SIZES))
def test_twenty_poses(seed, size):
    model, data, turn = small(vector_head='conservative'), cloud(size, seed), turn_of(seed)
    scalars, vectors = run(model, data)
    label = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    away = torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 1e3
    moved = Data(z=data.z[label], pos=data.pos[label] @ turn.T + away)
    other_scalars, other_vectors = run(model, moved)
    close(other_scalars, scalars, 1e-9)
    close(other_vectors, (vectors @ turn.T)[label], 1e-8)


def test_float32_far_away_and_planar():
    model = small(dtype=torch.float32, vector_head='conservative')
    for name, size, tolerance in (('cloud', 12, 1e-4), ('C6H6', 0, 1e-3)):
        data = cloud(size, 1) if name == 'cloud' else MOLECULES[name]
        data = Data(z=data.z, pos=data.pos.float())
        scalars, vectors = run(model, data)
        for seed in range(4):
            turn = turn_of(seed).float()
            other_scalars, other_vectors = run(model, Data(z=data.z, pos=data.pos @ turn.T))
            close(other_scalars, scalars, tolerance)
            close(other_vectors, vectors @ turn.T, tolerance)
        close(run(model, Data(z=data.z, pos=data.pos + 1e3))[1], vectors, 1e-3)


@pytest.mark.parametrize('name', VARIANTS)
def test_a_molecule_does_not_see_its_batch(name):
    model, molecules = small(**VARIANTS[name]), [cloud(n, n) for n in (7, 1, 21, 3)]
    alone = [run(model, m) for m in molecules]
    for order in ((0, 1, 2, 3), (2, 3, 0, 1)):
        scalars, vectors = run(model, batch_of(*(molecules[k] for k in order)))
        close(scalars, torch.cat([alone[k][0] for k in order]))
        close(vectors, torch.cat([alone[k][1] for k in order]))


def test_garbage_in_the_padding_changes_nothing(monkeypatch):
    model, data = small(cutoff=4.0, directional=True, node_rbf_sum=True), batch_of(cloud(5, 1), cloud(2, 2))
    real = Packing.pad

    def results():
        pos = data.pos.clone().requires_grad_()
        scalars, vectors = model(data.z, pos, data.batch, batch_size=2)
        grads = torch.autograd.grad(scalars.sum() + vectors.square().sum(), [pos, *model.parameters()],
                                    allow_unused=True)
        return [scalars, vectors, *(g for g in grads if g is not None)]
    clean = results()
    for garbage in (3, 7):
        monkeypatch.setattr(Packing, 'pad', lambda self, x, fill=0, g=garbage: real(
            self, x, g if x.is_floating_point() else 1))
        for a, b in zip(results(), clean, strict=True):
            close(a, b, 1e-9)


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


@pytest.mark.parametrize('name', ['paper', 'more', 'conservative'])
def test_vectors_of_a_planar_molecule_stay_in_its_plane(name):
    vectors = run(small(**VARIANTS[name]), MOLECULES['C6H6'])[1]
    assert vectors[:, :2].abs().max() > 1e-3
    assert vectors[:, 2].abs().max() < 1e-9


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


@pytest.mark.parametrize('fields', [dict(), dict(cutoff=3.0, equivariant_init='both', directional=True)])
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


@pytest.mark.parametrize('fields', [
    dict(), dict(directional=True, node_rbf_sum=True, equivariant_init='both'), dict(composition='sequential')])
@pytest.mark.parametrize('cutoff', [None, 2.5])
def test_dense_and_edge_paths_agree(cutoff, fields):
    dense, edges = small(cutoff=cutoff, **fields), small(cutoff=cutoff, **fields)
    edges.dense_size = 0
    data = batch_of(cloud(9, 1), cloud(1, 2), cloud(4, 3))
    results = []
    for model in (dense, edges):
        pos = data.pos.clone().requires_grad_()
        scalars, vectors = model(data.z, pos, data.batch)
        first, = torch.autograd.grad(scalars.sum() + vectors.sin().sum(), pos, create_graph=True)
        second, = torch.autograd.grad(first.sin().sum(), pos)
        results.append((scalars, vectors, first, second))
    for a, b in zip(*results, strict=True):
        close(a, b, 1e-9)


def test_given_edges_are_used():
    model, data = small(cutoff=2.5, directional=True), batch_of(cloud(9, 1), cloud(4, 3))
    apart = torch.cdist(data.pos, data.pos)
    near = (apart < 2.5) & (data.batch[:, None] == data.batch[None]) & ~torch.eye(13, dtype=torch.bool)
    edge_index = near.nonzero().T
    edge_index = edge_index[:, torch.randperm(edge_index.size(1), generator=torch.Generator().manual_seed(0))]
    expected = run(model, data)
    for kwargs in (dict(), dict(edge_offset=torch.zeros(edge_index.size(1), 3, dtype=torch.float64))):
        for a, b in zip(run(model, data, edge_index=edge_index, **kwargs), expected, strict=True):
            close(a, b)
    none = run(model, data, edge_index=edge_index[:, :0])
    assert (none[0] - expected[0]).abs().max() > 1e-3


def test_an_offset_edge_is_an_image():
    """Two atoms with an offset edge see each other at the offset distance, from both sides."""
    model = small(cutoff=3.0, equivariant_init='neighbours', directional=True)
    z, away = torch.tensor([6, 8]), torch.tensor([9.0, 0, 0], dtype=torch.float64)
    pos = torch.tensor([[0.0, 0, 0], [1.2, 0.3, 0]], dtype=torch.float64)
    edge_index = torch.tensor([[1, 0], [0, 1]])
    apart = model(z, pos + torch.stack([0 * away, away]), edge_index=edge_index,
                  edge_offset=torch.stack([-away, away]))
    for a, b in zip(apart, model(z, pos), strict=True):
        close(a, b)


def test_memory_of_the_edge_path_is_linear():
    """What is kept for the backward pass, in bytes an atom, does not grow with the system."""
    model, kept = small(cutoff=2.5, dense_size=0, dtype=torch.float32, equivariant_init='neighbours'), []
    for cells in (5, 10):
        grid = torch.cartesian_prod(*[torch.arange(cells).float()] * 3) * 1.8
        total = 0

        def count(x):
            nonlocal total
            total += x.numel() * x.element_size()
            return x
        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            model(torch.full((cells ** 3, ), 6), grid)
        kept.append(total / cells ** 3)
    assert kept[1] < 1.35 * kept[0]  # a small cube has more surface


@pytest.mark.parametrize('size', [5, 60])
def test_fused_attention_agrees(size):
    model, data = small(cutoff=6.0), batch_of(cloud(size, 1), cloud(3, 2))
    pos = data.pos.clone().requires_grad_()
    for a, b in zip(model(data.z, data.pos, data.batch), model(data.z, pos, data.batch), strict=True):
        close(a, b)


@pytest.mark.parametrize('name', ['paper', 'more', 'sequential'])
def test_training_mode_is_equivariant_and_random(name):
    rates = dict(input_dropout=0.2, attention_dropout=0.2, activation_dropout=0.2, dropout=0.2, drop_path=0.2)
    model, data = small(**VARIANTS[name], **rates).train(), batch_of(cloud(7, 1), cloud(4, 2))

    def draw(pos, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return model(data.z, pos, data.batch)
    turn = turn_of(1)
    scalars, vectors = draw(data.pos, 3)
    other_scalars, other_vectors = draw(data.pos @ turn.T, 3)
    close(other_scalars, scalars)
    close(other_vectors, vectors @ turn.T, 1e-9)
    assert (draw(data.pos, 4)[1] - vectors).abs().max() > 1e-3


@pytest.mark.parametrize('velocity', ['none', 'paired'])
def test_charges_and_spins_of_molecules(velocity):
    """Each molecule has its own; which index a charge has is nobody's matter."""
    fields = dict(charges=(-1, 0, 2), spins=(1, 3), velocity=velocity)
    model, data = small(**fields), batch_of(cloud(4, 1), cloud(4, 1), cloud(4, 1), cloud(3, 2))
    vel = None if velocity == 'none' else data.pos.cos()
    if vel is not None:
        vel[4:8] = vel[8:12] = vel[:4]
    totals = dict(charge=torch.tensor([0, 2, 2, -1]), spin=torch.tensor([1, 3, 1, 3]))
    energy, vectors = run(model, data, vel=vel, **totals)
    assert torch.cdist(energy[:3, None], energy[:3, None]).add(torch.eye(3)).min() > 1e-4
    assert (vectors[:4] - vectors[4:8]).abs().max() > 1e-4
    for k, part in enumerate((slice(0, 4), slice(4, 8), slice(8, 12), slice(12, 15))):
        alone = model(data.z[part], data.pos[part], vel=None if vel is None else vel[part],
                      **{name: value[k:k + 1] for name, value in totals.items()})
        close(alone[0], energy[k:k + 1])
        close(alone[1], vectors[part])
    count = sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small(velocity=velocity).parameters())
    assert count == 5 * model.config.channels


def test_mirror_images_look_alike_unless_chiral():
    left, right = MOLECULES['CHFClBr R'], MOLECULES['CHFClBr S']
    model = small(directional=True, equivariant_init='both')
    close(run(model, left)[0], run(model, right)[0])
    model = small(chiral=True, equivariant_init='both', directional=True)
    assert (run(model, left)[0] - run(model, right)[0]).abs().max() > 1e-6
    turn = random_rotation(1)
    scalars, vectors = run(model, left)
    turned = run(model, Data(z=left.z, pos=left.pos @ turn.T + 1))
    close(turned[0], scalars)
    close(turned[1], vectors @ turn.T, 1e-9)


def test_positional_vectors_move_with_the_molecule_and_are_not_degenerate():
    model = small(positional=True, vector_head='position', num_layers=3)
    data, turn, away = cloud(7, 1), turn_of(1), torch.tensor([3.0, -50.0, 8.0], dtype=torch.float64)
    scalars, vectors = run(model, data)
    moved_scalars, moved_vectors = run(model, Data(z=data.z, pos=data.pos @ turn.T + away))
    close(moved_scalars, scalars, 1e-9)
    close(moved_vectors, vectors @ turn.T + away, 1e-9)
    assert (vectors - data.pos).abs().max() > 1e-2
    _, streams = model.encode(model.prepare(data.z, data.pos))
    assert (streams[0] - data.pos.unsqueeze(-1)).std(-1).min() > 1e-3  # as printed it would be 0: every channel equal


@pytest.mark.parametrize('preset', ['n_body', 'n_body_direct'])
@pytest.mark.parametrize('velocity', ['merged', 'paired', 'paired_shared'])
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


#: Preset -> what there is beside 25 d² L, as (linear biases, norms) a block and the rest of the model.
def expected_parameters(c):
    d, h, k, t = c.channels, c.heads, c.num_kernels, len(c.elements)
    r = c.hidden_channels or d
    networks = 2 if c.velocity == 'paired' else 1
    matrices = (4 + 4 + 6 + 6) * d * d + 5 * d * r
    biases = (4 * d) + (2 * d) + (2 * d) + (r + d) + r  # ISA; ICA; gate of ECA; FFN of scalars; gate of FFN of vectors
    norms = 2 * (2 * d + d)
    pair_basis, atom_basis = 2 * t * t + 2 * k, 2 * t + 2 * d
    encoding = pair_basis + (k * k + k) + (k * 4 * h + 4 * h)
    total = networks * (c.num_layers * (matrices + biases + norms) + t * d + encoding)
    first = k * d if c.equivariant_init == 'neighbours' else atom_basis + d * d
    total += first + (atom_basis + d * d if c.velocity != 'none' else 0) + c.num_tags * d
    if c.scalar_head != 'none':
        total += 2 * d + (d * d + d) + (d + 1) + max(c.num_tags - 1, 0)
    if c.vector_head in ('direct', 'position'):
        total += 2 * d + 2 * (d * d + d) + networks * (d + d * d) + d + (c.velocity != 'none')
    return networks * c.num_layers * 25 * d * d, total


@pytest.mark.parametrize('name, million', [
    ('n_body_paper', 1.31), ('rmd17_paper', 1.39), ('pcqm4mv2', 52.5), ('molecule3d', 177), ('oc20', 177)])
def test_parameter_counts_of_the_papers_models(name, million):
    config = GeoMFormerConfig.preset(name)
    with torch.device('meta'):
        model = GeoMFormer(config)
    main, total = expected_parameters(config)
    count = sum(p.numel() for p in model.parameters())
    assert count == total
    assert sum(p.numel() for n, p in model.named_parameters() if n.startswith('blocks') and p.dim() == 2) == main
    assert count / 1e6 == pytest.approx(million, rel=0.06)


def test_presets():
    assert {'n_body', 'rmd17', 'qm9', 'pcqm4mv2', 'molecule3d', 'oc20'} <= set(geomformer.PRESETS)


@pytest.mark.parametrize('name', geomformer.PRESETS)
def test_a_configuration_survives_json(name):
    config = GeoMFormerConfig.preset(name, heads=4)
    again = GeoMFormerConfig(**json.loads(json.dumps(config.to_dict())))
    assert again == config and hash(again) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.heads = 3


@pytest.mark.parametrize('fields', [dict(), dict(vector_head='conservative', cutoff=3.0)])
def test_a_saved_model_predicts_the_same(fields, tmp_path):
    model, data = small(dtype=torch.float32, **fields), cloud(6, 1, torch.float32)
    model.fit_references(data.z, torch.zeros(6, dtype=torch.long), torch.tensor([-1234.5]))
    again = GeoMFormer.from_pretrained(model.save_pretrained(tmp_path, unit='kcal/mol'))
    for a, b in zip(run(model, data), run(again, data), strict=True):
        assert torch.equal(a, b)


def test_references_carry_the_large_part_of_energies():
    g = torch.Generator().manual_seed(0)
    molecules = [cloud(int(n), k, torch.float32) for k, n in enumerate(torch.randint(2, 9, (40, ), generator=g))]
    batch = batch_of(*molecules)
    reference = {1: -300.5, 6: -24000.25, 7: -34000.5, 8: -47000.75}
    noise = torch.randn(40, generator=g, dtype=torch.float64)
    totals = torch.stack([torch.tensor([reference[int(k)] for k in m.z], dtype=torch.float64).sum()
                          for m in molecules]) + 0.5 * noise
    model = small(dtype=torch.float32).fit_references(batch.z, batch.batch, totals)
    energy = run(model, batch)[0]
    assert energy.dtype == torch.float64  # float32 holds such numbers to 0.01
    assert (energy - totals).abs().mean() < 30 and 0.05 < float(model.scale) < 1
    one = small(dtype=torch.float32).fit_references(molecules[0].z, batch.batch[batch.batch == 0], totals[:1])
    assert float(one.scale) == 1
    mean = small(dtype=torch.float32, scalar_head='mean').fit_references(batch.z, batch.batch, noise + 7)
    assert float((mean.reference - (noise + 7).mean()).abs().max()) < 1e-6
    assert float(mean.scale) == pytest.approx(float(noise.std()), rel=1e-5)


@pytest.mark.parametrize('precision', ['autocast', 'gradients'])
def test_bfloat16_is_finite_and_near(precision):
    model, data = small(dtype=torch.float32, vector_head='conservative'), batch_of(cloud(6, 1), MOLECULES['C6H6'])
    data.pos = data.pos.float()
    exact = run(model, data)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = run(model, data)
        if precision == 'gradients':
            (rough[0].sum() + rough[1].square().sum()).backward()
            assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)
    for a, b in zip(rough, exact, strict=True):
        close(a, b, 0.15)


def test_training_under_autocast_stays_finite_and_learns():
    model, data = small(dtype=torch.float32, vector_head='conservative').train(), batch_of(cloud(5, 1), cloud(5, 2))
    data.pos, optimizer, losses = data.pos.float(), torch.optim.AdamW(model.parameters(), lr=3e-3), []
    target = torch.randn(data.pos.shape, generator=torch.Generator().manual_seed(0))
    for _ in range(50):
        with torch.autocast('cpu', dtype=torch.bfloat16):
            energy, force = run(model, data)
            loss = energy.square().mean() + (force - target).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert torch.tensor(losses).isfinite().all() and all(p.isfinite().all() for p in model.parameters())
    assert min(losses[-5:]) < 0.7 * losses[0]


def kept_for_derivatives(model, size):
    """Numbers that a conservative prediction on a chain of atoms keeps for the gradient in the weights."""
    kept = {}

    def keep(x):
        kept[x.untyped_storage().data_ptr()] = x  # alive, so that no other takes its place
        return x
    along = torch.arange(size, dtype=torch.float64)
    pos = torch.stack([1.5 * along, along % 2, torch.zeros_like(along)], dim=1)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = model(torch.full((size, ), 6), pos)
    assert out[1].requires_grad
    return sum(x.untyped_storage().nbytes() // x.element_size() for x in kept.values())


@pytest.mark.parametrize('dense_size, order', [(0, 1), (10**6, 2)])
def test_memory_is_linear_in_atoms_along_edges_and_quadratic_for_all_pairs(dense_size, order):
    model = small(vector_head='conservative', cutoff=4.0, equivariant_init='neighbours', dense_size=dense_size)
    a, b, c = (kept_for_derivatives(model, size) for size in (40, 80, 160))
    growth = (c - b) / (b - a)  # 2 if linear, 4 if quadratic, whatever does not grow with atoms
    assert 1.99 < growth < 2.01 if order == 1 else growth > 2.5, growth


def test_it_learns_eight_samples():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = GeoMFormer(channels=16, heads=2, num_layers=2, num_kernels=8, radius=(0.1, 6.0)).double()
    batch = batch_of(*(cloud(4, k) for k in range(8)))
    target = torch.randn(8, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=80, line_search_fn='strong_wolfe', tolerance_grad=1e-5)

    def loss():
        optimizer.zero_grad()
        error = (model(batch.z, batch.pos, batch.batch, validate=False)[0] - target).square().mean()
        error.backward()
        return error
    optimizer.step(loss)
    assert float(loss().detach()) < 1e-6


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


def test_compiled_with_varying_sizes():
    torch._dynamo.reset()
    model = small(dtype=torch.float32)
    compiled = torch.compile(model, backend='eager', dynamic=True)
    for sizes in ((3, 5), (4, 4), (2, 6, 7)):
        data = batch_of(*(cloud(n, n, torch.float32) for n in sizes))
        for a, b in zip(run(compiled, data), run(model, data), strict=True):
            close(a, b, 1e-5)
    torch._dynamo.reset()


@pytest.mark.slow
def test_compiled_training_follows_sizes_without_compiling_again():
    torch._dynamo.reset()
    counters.clear()
    model = small(dtype=torch.float32, num_layers=1).train()
    compiled = torch.compile(model, backend='aot_eager', dynamic=True)

    def outputs_and_gradients(network, data):
        scalar, vector = run(network, data)
        (scalar.sum() + vector.square().sum()).backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad()
        return scalar, vector, gradients
    for sizes in ((3, 5), (4, 6, 2), (2, 9, 7, 3)):
        data = batch_of(*(cloud(n, n, torch.float32) for n in sizes))
        for a, b in zip(outputs_and_gradients(compiled, data), outputs_and_gradients(model, data), strict=True):
            close(a, b, 1e-5)
    assert counters['stats']['unique_graphs'] == 2  # the first sizes, then all
    torch._dynamo.reset()


def test_a_model_is_built_from_a_configuration_or_its_fields():
    fields = dict(channels=16, heads=2, num_layers=1)
    a, b = GeoMFormer(GeoMFormerConfig(**fields)), GeoMFormer(**fields)
    count = sum(p.numel() for p in a.parameters())
    assert a.config == b.config
    assert repr(b) == f"GeoMFormer({count:,} parameters, scalar_head='sum', vector_head='none')"


WATER = MOLECULES['H2O']


def call(fields=None, z=WATER.z, pos=WATER.pos, **kwargs):
    return small(**(fields or {}))(z, pos, **kwargs)


@pytest.mark.parametrize('bad, message', [
    (lambda: call(z=torch.tensor([8, 1, 3])), r"'z' must hold elements of \[1, 6, 7, 8, 9, 17, 35\] \(got \[3\]\)"),
    (lambda: call(z=torch.tensor([8, 1, -200])), r"'z' must hold elements of .* \(got \[-200\]\)"),
    (lambda: call(z=torch.tensor([8, 1])), r"'z' must be integers \[3\] \(got \[2\], torch.int64\)"),
    (lambda: call(z=torch.ones(3)), r"'z' must be integers \[3\] \(got \[3\], torch.float32\)"),
    (lambda: call(pos=torch.ones(3, 2)), r"'pos' must be floating point \[N, 3\] \(got \[3, 2\], torch.float32\)"),
    (lambda: call(pos=torch.ones(3, 3).long()), r"'pos' must be floating point \[N, 3\]"),
    (lambda: call(z=WATER.z[:0], pos=WATER.pos[:0]), r"there must be at least one atom \(got none\)"),
    (lambda: call(pos=WATER.pos * math.nan), r"'pos' must be finite \(got 9 entries that are not\)"),
    (lambda: call(pos=WATER.pos[[0, 1, 1]]), r"'pos' must not hold two atoms of one molecule closer than 0.0001 Å "
                                             r"\(got 0 Å\)"),
    (lambda: call(dict(cutoff=3.0, dense_size=0), pos=WATER.pos[[0, 1, 1]]), r"two atoms of one molecule closer"),
    (lambda: call(batch=torch.tensor([0, 1, 0])), r"'batch' must be sorted and not negative: .* \(got \[0, 1, 0\]\)"),
    (lambda: call(batch=torch.tensor([-1, 0, 0])), r"'batch' must be sorted and not negative"),
    (lambda: call(batch=torch.tensor([0, 0])), r"'batch' must be int64 \[3\] \(got \[2\], torch.int64\)"),
    (lambda: call(dict(vector_head='none'), vectors=True),
     r"this GeoMFormer predicts scalars only \('vector_head' is 'none'\): it has no vectors to give"),
    (lambda: call(vel=WATER.pos), r"'vel' must not be given: this GeoMFormer reads no velocities"),
    (lambda: call(dict(velocity='merged')), r"'vel' must be given: this GeoMFormer reads velocities"),
    (lambda: call(dict(velocity='merged'), vel=WATER.pos[:2]), r"'vel' must be \[3, 3\], like 'pos' \(got \[2, 3\]\)"),
    (lambda: call(dict(velocity='merged'), vel=WATER.pos * math.inf), r"'vel' must be finite \(got"),
    (lambda: call(charge=torch.tensor([1])), r"'charge' must not be given: this GeoMFormer reads no charges"),
    (lambda: call(dict(spins=(1, 2))), r"'spin' must be given: this GeoMFormer reads spins"),
    (lambda: call(dict(spins=(1, 2)), spin=torch.tensor(1)), r"'spin' must be integers \[1\] \(got \[\], torch.int"),
    (lambda: call(dict(charges=(0, 1)), charge=torch.zeros(1)), r"'charge' must be integers \[1\] \(got \[1\], "),
    (lambda: call(dict(charges=(0, 1)), charge=torch.tensor([-1])), r"'charge' must be of \[0, 1\] \(got \[-1\]\)"),
    (lambda: call(tags=torch.tensor([0, 1, 2])), r"'tags' must not be given: this GeoMFormer reads no tags"),
    (lambda: call(dict(num_tags=3)), r"'tags' must be given: this GeoMFormer reads tags"),
    (lambda: call(dict(num_tags=3), tags=torch.tensor([0, 1])), r"'tags' must be integers \[3\] \(got \[2\], torch"),
    (lambda: call(dict(num_tags=3), tags=torch.tensor([0, 1, 3])), r"'tags' must be of 0 to 2 \(got \[0, 1, 3\]\)"),
    (lambda: call(edge_index=torch.zeros(3, 2).long()), r"'edge_index' must be integers \[2, E\] \(got \[3, 2\]"),
    (lambda: call(edge_index=torch.tensor([[0], [3]])), r"'edge_index' must name atoms 0 to 2 \(got 0 to 3\)"),
    (lambda: call(edge_index=torch.tensor([[0], [2]]), batch=torch.tensor([0, 0, 1])),
     r"'edge_index' must join atoms of one molecule"),
    (lambda: call(edge_offset=torch.zeros(1, 3)), r"'edge_offset' must be \[E, 3\] with an 'edge_index'"),
    (lambda: small().fit_references(WATER.z, torch.zeros(3).long(), torch.ones(2)),
     r"'scalars' must be \[1, 1\] \(got \[2\]\)"),
    (lambda: small().fit_references(WATER.z + 2, torch.zeros(3).long(), torch.ones(1)),
     r"'z' must hold elements of .* \(got \[3, 10\]\)"),
], ids=range(33))
def test_bad_input(bad, message):
    with pytest.raises(ValueError, match=message):
        bad()


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('channels', 'heads', 'num_layers', 'num_kernels', 'num_scalars', 'hidden_channels')],
    *[({name: 1.0}, rf"'{name}' must be in \[0, 1\) \(got 1.0\)")
      for name in ('input_dropout', 'attention_dropout', 'activation_dropout', 'dropout', 'drop_path')],
    *[({name: 'odd'}, rf"'{name}' must be one of .* \(got 'odd'\)")
      for name in ('radial', 'equivariant_init', 'velocity', 'composition', 'equ_norm', 'head_norm', 'scalar_head',
                   'vector_head')],
    (dict(channels=10, heads=4), r"'channels' must be a multiple of heads = 4 \(got 10\)"),
    (dict(elements=(1, 1)), r"'elements' must be distinct integers \(got \(1, 1\)\)"),
    (dict(charges=(0, 0)), r"'charges' must be distinct integers \(got \(0, 0\)\)"),
    (dict(spins=(0, 1)), r"'spins' are multiplicities 2 S \+ 1, which are at least 1 \(got \(0, 1\)\)"),
    (dict(num_tags=1), r"'num_tags' must be 0 or at least 2 \(got 1\)"),
    (dict(attentions=('self', )), r"'attentions' must be of inv_self, .* \(got \('self',\)\)"),
    (dict(softening=-1.0), r"'softening' must not be negative \(got -1.0\)"),
    (dict(cutoff=0.0), r"'cutoff' must be positive and finite, or None \(got 0.0\)"),
    (dict(positional=True, velocity='merged'), r"'positional' vectors carry positions alone"),
    (dict(time_steps=-1), r"'time_steps' must not be negative \(got -1\)"),
    (dict(time_steps=4),
     r"'time_steps' are for models that read velocities .* \(got velocity='none', scalar_head='sum'"),
    (dict(scalar_head='none'), r"one of 'scalar_head' and 'vector_head' must not be 'none'"),
    (dict(vector_head='conservative', scalar_head='mean'), r"'conservative' only for one scalar that is a 'sum'"),
    (dict(radius=(2.0, 1.0)), r"'radius' must be \(low, high\) with 0 <= low < high"),
    (dict(radial='log', radius=(0.0, 1.0)), r"'radius' must be \(low, high\) with .* \(got \(0.0, 1.0\)\)"),
], ids=str)
def test_errors_of_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        GeoMFormer(GeoMFormerConfig(**fields))


@pytest.mark.parametrize('build, message', [
    (lambda: GeoMFormerConfig.preset('huge'), r"'preset' must be one of n_body, .* \(got 'huge'\)"),
    (lambda: GeoMFormer(GeoMFormerConfig(), heads=2), r"give 'config' or its fields, not both \(got \['heads'\]\)"),
    (lambda: GeoMFormer(layers=2), r"'layers' is not a field of GeoMFormerConfig"),
], ids=range(3))
def test_errors_of_the_model(build, message):
    with pytest.raises(ValueError, match=message):
        build()
