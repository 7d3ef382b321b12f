import json

import pytest
import torch
from torch import nn

from torch_geometric_inertial import GeoMFormer, PaiNN
from torch_geometric_inertial.training import (
    EnergyForceLoss,
    FitConfig,
    KeepBest,
    PackedTargets,
    PositionLoss,
    PropertyLoss,
    fit,
)

SMALL = dict(channels=16, heads=2, num_layers=1, num_kernels=8)


def particles(num=6, seed=0):
    """Five particles that move straight on."""
    g = torch.Generator().manual_seed(seed)
    pos, vel = 2 * torch.randn(2, 5 * num, 3, generator=g)
    z = torch.randint(2, (5 * num, ), generator=g) * 2 - 1
    return PackedTargets(5 * torch.arange(num + 1), dict(z=z, pos=pos, vel=vel, y=pos + 0.5 * vel))


def waters(num=8, seed=0):
    """Water with springs between all atoms, and an energy far from zero."""
    g = torch.Generator().manual_seed(seed)
    rest = torch.tensor([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]], dtype=torch.float64)
    pos = (rest + 0.1 * torch.randn(num, 3, 3, generator=g)).requires_grad_()
    stretch = [(pos[:, i] - pos[:, j]).norm(dim=1) - (rest[i] - rest[j]).norm() for i, j in ((0, 1), (0, 2), (1, 2))]
    energy = -47000 + 300 * sum(x.square() for x in stretch)
    force = -torch.autograd.grad(energy.sum(), pos)[0]
    return PackedTargets(3 * torch.arange(num + 1),
                         dict(z=torch.tensor([8, 1, 1]).repeat(num), pos=pos.detach().float().flatten(0, 1),
                              force=force.float().flatten(0, 1)), dict(energy=energy.detach()))


def n_body_model():
    torch.manual_seed(0)
    return GeoMFormer(elements=(-1, 1), velocity='merged', scalar_head='none', vector_head='position', **SMALL)


def test_position_loss_is_the_mean_square_of_all_coordinates():
    model, batch = n_body_model().eval(), particles().batch()
    predicted = model(batch.z, batch.pos, batch.batch, vel=batch.vel)[1].detach()
    expected = sum(float((a - b)**2) for a, b in zip(predicted.flatten(), batch.y.flatten(), strict=True)) / (6 * 5 * 3)
    assert float(PositionLoss(model)(batch).total.detach()) == pytest.approx(expected, rel=1e-5)


def test_position_loss_needs_positions():
    with pytest.raises(ValueError, match=r"'model' must predict positions \(got vector_head='none'\)"):
        PositionLoss(GeoMFormer(**SMALL))


@pytest.mark.parametrize('head', ['conservative', 'direct'])
def test_energy_and_force_loss(head):
    data = waters()
    torch.manual_seed(0)
    loss = EnergyForceLoss(PaiNN(elements=(1, 8), channels=8, num_layers=1, vector_head=head), data, 0.3, 0.7)
    batch = data.batch(torch.tensor([5, 1, 2]))
    terms = loss(batch)
    energy, force = loss.model(batch.z, batch.pos, batch.batch)
    sigma = float(data.molecule_columns['energy'].std())
    expected = (0.3 * (energy - batch.energy).square().mean() + 0.7 * (force - batch.force).square().mean()) / sigma**2
    torch.testing.assert_close(terms.total, expected, rtol=1e-5, atol=0)  # forces are float32
    torch.testing.assert_close(terms.energy_mae, (energy - batch.energy).abs().mean(), rtol=1e-5, atol=0)
    torch.testing.assert_close(terms.force_mae, (force - batch.force).abs().mean(), rtol=1e-5, atol=0)


@pytest.mark.parametrize('model, weights, message', [
    (dict(vector_head='none'), (), r"'model' must predict one energy, a 'sum', and forces, .* 'sum' and 'none'\)"),
    (dict(vector_head='direct', scalar_head='mean'), (), r"'model' must predict one energy.* 'mean' and 'direct'\)"),
    (dict(vector_head='direct'), (-1.0, 1.0), r"must not be negative, nor both 0 \(got -1.0 and 1.0\)"),
    (dict(vector_head='direct'), (0.0, 0.0), r"must not be negative, nor both 0 \(got 0.0 and 0.0\)"),
], ids=range(4))
def test_errors_of_energies_and_forces(model, weights, message):
    with pytest.raises(ValueError, match=message):
        EnergyForceLoss(PaiNN(elements=(1, 8), channels=8, num_layers=1, **model), waters(), *weights)


def test_equal_energies_have_a_scale():
    data = waters()
    data.molecule_columns['energy'] = torch.full((8, ), -5.0, dtype=torch.float64)
    loss = EnergyForceLoss(PaiNN(elements=(1, 8), channels=8, num_layers=1, vector_head='conservative'), data)
    assert bool(loss(data.batch()).total.isfinite())


def steps(num, **changes):
    return FitConfig(**(dict(num_steps=num, batch_size=4, lr=5e-3, warmup_steps=5, log_every=5, save_every=5,
                             max_norm=10.0, ema_decay=0.9) | changes))


def test_fitting_learns_positions(tmp_path):
    loss, data = PositionLoss(n_body_model()), particles()
    before = float(loss.eval()(data.batch()).total.detach())
    after = float(fit(loss, data, tmp_path, steps(60))(data.batch()).total.detach())
    assert after < 0.5 * before


def test_fitting_learns_forces_through_the_energy(tmp_path):
    data = waters()
    torch.manual_seed(0)
    loss = EnergyForceLoss(PaiNN(elements=(1, 8), channels=16, num_layers=2, vector_head='conservative'), data)
    before = float(loss.eval()(data.batch()).force_mae.detach())
    after = float(fit(loss, data, tmp_path, steps(80))(data.batch()).force_mae.detach())
    assert after < 0.5 * before


def test_a_stopped_training_goes_on_as_if_it_had_not(tmp_path):
    weights = {}
    for name, stops in (('whole', [15]), ('parts', [5, 15])):
        for stop in stops:
            loss = EnergyForceLoss(GeoMFormer(elements=(1, 8), vector_head='conservative', dropout=0.1,
                                              **SMALL | dict(channels=8)), waters())
            torch.manual_seed(0)
            loss.model.reset_parameters()
            # the cosine runs to num_steps, so a part is a training that ends at its own checkpoint
            config = steps(stop, min_lr=1.0, warmup_steps=0)
            averaged = fit(loss, waters(), tmp_path / name, config)
        weights[name] = torch.cat([p.detach().flatten() for p in averaged.parameters()])
    assert torch.equal(weights['whole'], weights['parts'])




class Kept(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model


def test_the_best_is_kept_and_found_again(tmp_path):
    figures, loss = [3.0, 1.0, 2.0], Kept(n_body_model())
    keep = KeepBest(tmp_path, lambda _: dict(error=figures[0]), 'error', data='particles')
    for step in range(3):
        with torch.no_grad():
            loss.model.drift.fill_(float(step))
        assert keep(loss, step) == dict(error=figures.pop(0))
    facts = json.loads((tmp_path / 'config.json').read_text())
    assert facts['validation'] == dict(step=1, error=1.0) and facts['data'] == 'particles'
    assert GeoMFormer.from_pretrained(tmp_path).drift.item() == 1.0

    keep = KeepBest(tmp_path, lambda _: dict(error=1.5), 'error')
    keep(loss, 9)
    assert GeoMFormer.from_pretrained(tmp_path).drift.item() == 1.0


def test_the_deciding_figure_must_be_measured(tmp_path):
    with pytest.raises(ValueError, match=r"'measure' must give 'mae' \(got \['error'\]\)"):
        KeepBest(tmp_path, lambda _: dict(error=1.0), 'mae')(Kept(n_body_model()), 0)


def property_model(**fields):
    torch.manual_seed(0)
    return PaiNN(**(dict(elements=(1, 8), channels=16, num_layers=1, scalar_head='mean') | fields))


@pytest.mark.parametrize('head', ['mean', 'sum'])
def test_property_loss_counts_standard_deviations(head):
    data = waters(16)
    model = property_model(scalar_head=head)
    loss, batch = PropertyLoss(model, data, 'energy'), data.batch()
    std = float((batch.energy - batch.energy.mean()).std())  # one composition: references explain the mean alone
    assert float(loss.scale) == pytest.approx(std, rel=1e-6)
    terms = loss(batch)
    error = (model(batch.z, batch.pos, batch.batch)[0].detach() - batch.energy).abs()
    assert float(terms.mae.detach()) == pytest.approx(float(error.mean()), rel=1e-6)
    assert float(terms.total.detach()) == pytest.approx(float(error.mean()) / std, rel=1e-5)
    assert float(error.mean()) < 3 * std  # an untrained model predicts near the mean, in the unit of the data


@pytest.mark.parametrize('beta', [0.5, 100.0])
def test_property_loss_is_a_parabola_below_beta(beta):
    data = waters(16)
    model = property_model()
    loss, batch = PropertyLoss(model, data, 'energy', beta), data.batch()
    error = (model(batch.z, batch.pos, batch.batch)[0].detach() - batch.energy).abs() / loss.scale
    expected = torch.where(error < beta, error.square() / (2 * beta), error - beta / 2).mean()
    assert float(loss(batch).total.detach()) == pytest.approx(float(expected), rel=1e-6)


def test_weights_of_a_property_predict_in_its_unit(tmp_path):
    data = waters(64)
    loss = PropertyLoss(property_model(), data, 'energy')
    trained = fit(loss, data, tmp_path / 'training', FitConfig(num_steps=60, batch_size=16, lr=5e-3, warmup_steps=5))
    trained.model.save_pretrained(tmp_path / 'model')
    batch = data.batch()
    with torch.no_grad():
        values = PaiNN.from_pretrained(tmp_path / 'model')(batch.z, batch.pos, batch.batch)[0]
    spread = (batch.energy - batch.energy.median()).abs().mean()
    assert float((values - batch.energy).abs().mean()) < 0.8 * float(spread)


def test_mistakes_of_property_loss():
    with pytest.raises(ValueError, match=r"'model' must predict one scalar \(got 2, 'mean'\)"):
        PropertyLoss(property_model(num_scalars=2), waters(), 'energy')
    with pytest.raises(ValueError, match=r"'data' must have a number 'gap' a molecule \(got PackedTargets\(8 mol"):
        PropertyLoss(property_model(), waters(), 'gap')
    with pytest.raises(ValueError, match=r"'beta' must not be negative \(got -1.0\)"):
        PropertyLoss(property_model(), waters(), 'energy', -1.0)


def test_the_best_of_another_training_is_not_gone_on_with(tmp_path):
    loss = Kept(n_body_model())
    for identity, error, kept in (('a', 1.0, 1.0), ('a', 2.0, 1.0), ('b', 3.0, 3.0)):
        loss.model.training_record = dict(identity=identity, steps=7)
        KeepBest(tmp_path, lambda _: dict(error=error), 'error')(loss)  # noqa: B023
        facts = json.loads((tmp_path / 'config.json').read_text())
        assert facts['validation'] == dict(step=7, error=kept)
    (tmp_path / 'config.json').write_text('{"training": {"identity": "b"}}')
    with pytest.raises(ValueError, match=r"config.json' has no figure 'error' of a training to go on with"):
        KeepBest(tmp_path, lambda _: dict(error=1.0), 'error')(loss)
