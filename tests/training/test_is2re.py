import json

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import guess_tags, read_relaxations
from torch_geometric_inertial.training import (
    FitConfig,
    IS2RELoss,
    IS2RSLoss,
    NoisyNodes,
    PackedTargets,
    fit,
    predict_is2re,
)

CELL = torch.tensor([[4.0, 0.0, 0.0], [1.0, 5.0, 0.0], [0.0, 0.0, 12.0]])
PBC = torch.ones(1, 3, dtype=torch.bool)


def model(**fields):
    torch.manual_seed(0)
    small = dict(channels=16, heads=2, num_layers=1, num_kernels=8, cutoff=4.0, radius=(0.0, 4.0))
    return GeoMFormer(GeoMFormerConfig.preset('oc20', **small | fields))


def slabs():
    """Two systems, of which the second has an atom that relaxed across the border of the cell."""
    first = Data(z=torch.tensor([29, 29, 6]), pos=torch.tensor([[0.0, 0, 0], [2.0, 0, 0], [1.0, 1, 2]]),
                 tags=torch.tensor([0, 1, 2]), fixed=torch.tensor([True, False, False]))
    first.pos_relaxed = first.pos + torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.0, 0.2, -0.3]])
    second = Data(z=torch.tensor([47, 8]), pos=torch.tensor([[0.1, 0, 0], [0.5, 0, 2.0]]),
                  tags=torch.tensor([1, 2]), fixed=torch.tensor([False, False]))
    second.pos_relaxed = second.pos + torch.tensor([[-0.3, 0, 0], [0.0, 0.0, 0.1]])
    second.pos_relaxed[0] += CELL[0]
    for data, energy in ((first, -1.0), (second, 2.0)):
        data.cell, data.pbc, data.energy = CELL.unsqueeze(0), PBC, torch.tensor([energy], dtype=torch.float64)
    return PackedTargets.from_dataset([first, second], ['z', 'pos', 'pos_relaxed', 'tags', 'fixed'],
                                      ['energy', 'cell', 'pbc'])


DISPLACEMENT = torch.tensor([[0.0, 0, 0], [0.1, 0, 0], [0.0, 0.2, -0.3], [-0.3, 0, 0], [0, 0, 0.1]])
FREE = [1, 2, 3, 4]


def test_the_scale_is_one_number_of_free_atoms_displacements():
    loss = IS2RELoss(model(), slabs().batch(), energy_mean=-2.0, energy_std=3.0)
    assert float(loss.model.vector_scale) == pytest.approx(float(DISPLACEMENT[FREE].square().mean().sqrt()), rel=1e-5)
    assert (float(loss.model.scale), float(loss.model.offset)) == (3.0, -2.0)
    default = IS2RELoss(model(), slabs().batch()).model
    assert (float(default.scale), float(default.offset)) == (pytest.approx(2.27078), -1.473)


@pytest.mark.parametrize('progress, weight', [(None, 15.0), (0.0, 15.0), (0.25, 11.5), (1.0, 1.0)])
def test_the_loss_by_hand(progress, weight):
    loss = IS2RELoss(model(), slabs().batch(), energy_std=3.0).eval()
    batch = slabs().batch()
    if progress is not None:
        batch.progress = progress
    terms = loss(batch)
    energy, pos = loss.model(batch.z, batch.pos, batch.batch, tags=batch.tags, cell=batch.cell, pbc=batch.pbc)
    energy_mae = (energy - torch.tensor([-1.0, 2.0])).abs().mean()
    error = (pos - batch.pos - DISPLACEMENT).abs().mean(1)
    displacement_mae = 0.5 * (error[[1, 2]].mean() + error[[3, 4]].mean())  # of a system, then of systems
    torch.testing.assert_close(terms.energy_mae, energy_mae)
    torch.testing.assert_close(terms.displacement_mae, displacement_mae)
    torch.testing.assert_close(terms.total, energy_mae / 3 + weight * displacement_mae / loss.model.vector_scale,
                               rtol=1e-5, atol=0)
    structure = IS2RSLoss(loss.model, slabs().batch())(batch)
    torch.testing.assert_close(structure.total, displacement_mae / loss.model.vector_scale)
    torch.testing.assert_close(structure.displacement_mae, displacement_mae)


def test_the_loss_does_not_know_the_image():
    loss, batch = IS2RELoss(model(), slabs().batch()).eval(), slabs().batch()
    moved = slabs().batch()
    moved.pos_relaxed = moved.pos_relaxed + torch.tensor([2, -1, 1.0]) @ CELL
    moved.pos = moved.pos - CELL[0]
    for a, b in zip(loss(batch), loss(moved), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_prediction_keeps_fixed_atoms_and_comes_in_order():
    trained, data = model(), slabs()
    energy, pos = predict_is2re(trained, data, batch_size=1)
    both = predict_is2re(trained, data, batch_size=2)
    torch.testing.assert_close(energy, both[0])
    torch.testing.assert_close(pos, both[1])
    assert torch.equal(pos[0], data.atom_columns['pos'][0]) and not torch.equal(pos[1], data.atom_columns['pos'][1])
    assert trained.training
    energy, pos = predict_is2re(model(scalar_head='none'), data)
    assert energy is None and pos.shape == (5, 3)


def test_noisy_nodes_lie_on_the_way():
    data = slabs()
    batch = NoisyNodes(std=0.0)(data.batch(), torch.Generator().manual_seed(0))
    moved = batch.pos - data.atom_columns['pos']
    place = (moved[FREE] / DISPLACEMENT[FREE]).nan_to_num(0.0).amax(1)
    torch.testing.assert_close(moved[FREE], place.unsqueeze(1) * DISPLACEMENT[FREE], rtol=0, atol=1e-5)
    assert float(place.min()) > 0 and float(place.max()) < 1 and moved[0].tolist() == [0, 0, 0]
    torch.testing.assert_close(place[[0, 2]], place[[1, 3]], rtol=0, atol=1e-4)  # one place a system
    assert float(place[0] - place[2]) != 0
    again = NoisyNodes(std=0.0)(data.batch(), torch.Generator().manual_seed(0))
    assert torch.equal(batch.pos, again.pos) and torch.equal(data.batch().pos, data.atom_columns['pos'])


def test_noise_has_its_size_and_share():
    index = torch.zeros(4000, dtype=torch.long)
    batch = slabs().batch(index)
    batch.pos_relaxed = batch.pos.clone()
    start = batch.pos
    noisy = NoisyNodes(std=0.3, probability=0.25)(batch, torch.Generator().manual_seed(1))
    moved = (noisy.pos - start).view(-1, 3, 3)
    chosen = moved[:, 1:].abs().amax((1, 2)) > 0
    assert 0.21 < float(chosen.float().mean()) < 0.29 and float(moved[:, 0].abs().max()) == 0
    assert float(moved[chosen][:, 1:].std()) == pytest.approx(0.3, rel=0.05)


@pytest.fixture(scope='module')
def relaxations(shared_data):
    """The smallest of the real systems, with the relaxation energy as target: totals have no reference."""
    systems = sorted(read_relaxations(shared_data / 'oc20_debug_traj' / 'oc20_30.npz'), key=lambda s: s.num_nodes)[:4]
    for s in systems:
        s.tags, s.energy = guess_tags(s.z, s.fixed), s.energy - s.energy_initial
    return PackedTargets.from_dataset(systems, ['z', 'pos', 'pos_relaxed', 'tags', 'fixed'], ['energy', 'cell', 'pbc'])


@pytest.mark.parametrize('task', ['is2re', 'is2rs', 'ghost'])
def test_real_relaxations_are_learned(relaxations, task, tmp_path):
    fields = {'is2rs': dict(scalar_head='none'), 'ghost': dict(periodic='ghost', cutoff=2.5)}.get(task, {})
    energy = relaxations.molecule_columns['energy']
    if task == 'is2rs':
        loss = IS2RSLoss(model(**fields), relaxations.batch())
    else:
        loss = IS2RELoss(model(**fields), relaxations.batch(), float(energy.mean()), float(energy.std()))
    before = [float(x.detach()) for x in loss.eval()(relaxations.batch())]
    config = FitConfig(num_steps=70, batch_size=2, lr=5e-3, warmup_steps=5, log_every=10, ema_decay=0.8, max_norm=5.0)
    trained = fit(loss, relaxations, tmp_path, config, augment=NoisyNodes(0.05) if task == 'is2re' else None)
    after = [float(x.detach()) for x in trained(relaxations.batch())]
    assert after[1] < 0.8 * before[1]  # energies, or displacements where there are none
    assert after[0] < before[0]
    log = [json.loads(line) for line in (tmp_path / 'log.jsonl').read_text().splitlines()]
    assert log[-1]['total'] < log[0]['total'] and 'displacement_mae' in log[0]


@pytest.mark.parametrize('build, message', [
    (lambda b: IS2RELoss(model(num_tags=0), b), r"'model' must predict one energy.* 'sum', 0 tags and 'pos"),
    (lambda b: IS2RELoss(model(vector_head='direct'), b), r"3 tags and 'direct'\)"),
    (lambda b: IS2RELoss(model(scalar_head='mean'), b), r"\(got 1, 'mean', 3 tags"),
    (lambda b: IS2RELoss(model(), b, displacement_weight=(15.0, -1.0)),
     r"'displacement_weight' must be a first and a last weight, not negative \(got \(15.0, -1.0\)\)"),
    (lambda b: IS2RELoss(model(), b, energy_std=0.0), r"'energy_std' must be positive \(got 0.0\)"),
    (lambda b: IS2RELoss(model(elements=(6, 29)), b),
     r"'sample' must hold elements of \[6, 29\] \(got \[8, 47\]\)"),
    (lambda b: IS2RSLoss(model(vector_head='direct'), b),
     r"'model' must predict positions \(got vector_head='direct'\)"),
    (lambda b: NoisyNodes(std=-0.1), r"'std' must not be negative \(got -0.1\)"),
    (lambda b: NoisyNodes(probability=1.5), r"'probability' must be in \[0, 1\] \(got 1.5\)"),
], ids=range(9))
def test_bad_input(build, message):
    with pytest.raises(ValueError, match=message):
        build(slabs().batch())


def test_repr():
    assert repr(NoisyNodes(0.2)) == 'NoisyNodes(std=0.2, probability=1.0)'
