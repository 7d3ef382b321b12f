import dataclasses
import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.models.inertial_ar import PRESETS, GroupCondition
from torch_geometric_inertial.nn.nystrom import NystromFeatures


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_the_published_model_has_its_published_size():
    with torch.device('meta'):
        model = InertialAR(InertialARConfig.preset('paper'))
    assert num_parameters(model) == 448_512_057
    assert abs(num_parameters(model) / 1e6 - 448.5) < 0.1


def test_presets_grow():
    sizes = []
    for name in ('tiny', 'small', 'base', 'paper'):
        with torch.device('meta'):
            sizes.append(num_parameters(InertialAR(InertialARConfig.preset(name))))
    assert sizes == sorted(sizes) and sizes[0] < 2e6
    assert sorted(PRESETS) == ['base', 'paper', 'small', 'tiny']


@pytest.mark.parametrize('name', sorted(PRESETS))
def test_a_configuration_survives_json(name):
    config = InertialARConfig.preset(name, max_atoms=17)
    assert config.max_atoms == 17
    again = InertialARConfig(**json.loads(json.dumps(config.to_dict())))
    assert again == config and hash(again) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.heads = 3


def test_a_model_is_built_from_a_configuration_or_its_fields():
    torch.manual_seed(0)
    fields = dict(channels=32, heads=2, num_landmarks=8)
    a, b = InertialAR(InertialARConfig(**fields)), InertialAR(**fields)
    assert a.config == b.config and num_parameters(a) == num_parameters(b)
    assert repr(a) == f"InertialAR({num_parameters(a):,} parameters, coordinate_target='local')"


def test_fit_landmarks_reaches_every_kernel(qm9):
    pos = torch.cat([m.pos for m in qm9])
    for fields in (dict(), dict(fusion='heads', coordinate_target='absolute', environment_channels=0)):
        model = InertialAR(channels=32, heads=2, num_landmarks=8, **fields)
        kernels = [m for m in model.modules() if isinstance(m, NystromFeatures)]
        before = [m.landmarks.clone() for m in kernels]
        assert model.fit_landmarks(pos) is model and len(kernels) == 1
        assert all(not torch.equal(a, m.landmarks) for a, m in zip(before, kernels, strict=True))


def condition(dropout=0.0, num_groups=4):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return GroupCondition(8, num_groups, dropout).eval()


@given(st.lists(st.lists(st.integers(0, 1), min_size=4, max_size=4), min_size=1, max_size=5))
def test_a_condition_is_the_sum_of_its_groups_and_no_condition_is_null(rows):
    layer, groups = condition(0.3), torch.tensor(rows)
    expected = torch.stack([sum((layer.groups[g] for g in range(4) if row[g]), torch.zeros(8)) for row in rows])
    torch.testing.assert_close(layer(groups, len(rows)), expected)
    assert torch.equal(layer(None, len(rows)), layer.null.expand(len(rows), -1))
    assert torch.equal(condition(num_groups=0)(None, 2), condition(num_groups=0).null.expand(2, -1))


def test_training_drops_whole_conditions_and_single_groups():
    layer, n = condition(0.25).train(), 20_000
    with torch.no_grad():
        layer.null.fill_(100)
        layer.groups.copy_(torch.eye(4, 8))
    out = layer(torch.tensor([1, 1, 0, 1]).expand(n, 4), n, torch.Generator().manual_seed(0))
    null = (out == 100).all(1)
    assert null.float().mean().item() == pytest.approx(0.25, abs=0.02)
    share = out[~null].mean(0)
    torch.testing.assert_close(share[:4], torch.tensor([0.75, 0.75, 0.0, 0.75]), atol=0.02, rtol=0)
    assert torch.equal(layer(None, 3), layer.null.expand(3, -1))


def test_condition_dropout_comes_from_the_generator():
    layer, groups, state = condition(0.5).train(), torch.ones(50, 4), torch.get_rng_state()
    a, b = (layer(groups, 50, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(a, b)
    assert torch.equal(torch.get_rng_state(), state)


def test_groups_of_the_wrong_shape():
    for num_groups in (4, 0):
        with pytest.raises(ValueError, match=rf"'groups' must be \[2, {num_groups}\] \(got \(2, 3\)\)"):
            condition(num_groups=num_groups)(torch.ones(2, 3), 2)


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('max_atoms', 'channels', 'heads', 'type_layers', 'coord_layers', 'head_channels', 'head_layers',
                   'num_neighbours', 'num_landmarks', 'num_draws')],
    *[({name: -1}, rf"'{name}' must not be negative \(got -1\)")
      for name in ('num_groups', 'environment_channels', 'valence_channels', 'pair_channels', 'coord_weight',
                   'context_noise')],
    *[({name: 0.0}, rf"'{name}' must be positive \(got 0.0\)") for name in ('sigma_data', 'noise_std')],
    *[({name: 1.0}, rf"'{name}' must be in \[0, 1\) \(got 1.0\)") for name in ('dropout', 'condition_dropout')],
    (dict(sigma_data=float('nan')), r"'sigma_data' must be positive \(got nan\)"),
    (dict(elements=()), r"'elements' must be distinct atomic numbers \(got \(\)\)"),
    (dict(elements=(1, 1)), r"'elements' must be distinct atomic numbers \(got \(1, 1\)\)"),
    (dict(elements=[0, 1]), r"'elements' must be distinct atomic numbers \(got \(0, 1\)\)"),
    (dict(elements=(1, 119)), r"'elements' must be distinct atomic numbers"),
    (dict(modulation='none'), r"'modulation' must be one of each, shared, additive \(got 'none'\)"),
    (dict(order='random'), r"'order' must be 'smiles', 'heavy_first' or 'rank' \(got 'random'\)"),
], ids=str)
def test_errors_of_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        InertialARConfig(**fields)


@pytest.mark.parametrize('build, message', [
    (lambda: InertialARConfig.preset('huge'), r"'preset' must be one of tiny, small, base, paper \(got 'huge'\)"),
    (lambda: InertialAR(InertialARConfig(), heads=2), r"give 'config' or its fields, not both \(got \['heads'\]\)"),
    (lambda: InertialAR(layers=2), r"'layers' is not a field of InertialARConfig"),
    (lambda: InertialAR(channels=30, heads=4), r"'channels' must be a multiple of 2 \* heads = 8 \(got 30\)"),
    (lambda: InertialAR(fusion='sum'), r"'fusion' must be 'score' or 'heads' \(got 'sum'\)"),
    (lambda: InertialAR(coordinate_target='pca'), r"'coordinate_target' must be .* \(got 'pca'\)"),
    (lambda: InertialAR(widths=()), r"'widths' must be one or more positive lengths"),
], ids=range(7))
def test_errors_of_the_model(build, message):
    with pytest.raises(ValueError, match=message):
        build()
