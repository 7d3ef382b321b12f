import dataclasses
import json

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.models.inertial_ar import PRESETS
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


def test_every_parameter_takes_part_whatever_is_asked_for(qm9):
    """As DistributedDataParallel wants it."""
    model = InertialAR(channels=32, heads=2, num_landmarks=8, num_groups=3, properties=('gap', 'mu')).train()
    model.fit_properties(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    every = [dict(), dict(groups=torch.ones(1, 3)), dict(properties=torch.tensor([[1.0, torch.nan]]))]
    for asked in every:
        batch = Data(z=qm9[0].z, pos=qm9[0].pos, **asked)
        model.zero_grad()
        model(batch, torch.Generator().manual_seed(0)).total.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_groups_and_properties_reach_the_loss_and_their_range_the_weights(qm9, tmp_path):
    fields = dict(channels=32, heads=2, num_landmarks=8, num_groups=2, group_names=('a', 'b'), properties=('gap', ))
    model = InertialAR(**fields).fit_properties(torch.tensor([[1.0], [5.0]])).eval()
    for name, p in model.named_parameters():
        if 'type_head' in name:
            torch.nn.init.normal_(p)
    def loss(model, **conditions):
        return model(Data(z=qm9[0].z, pos=qm9[0].pos, **conditions), torch.Generator().manual_seed(0)).total.item()
    every = [dict(), dict(groups=torch.tensor([[1, 0]])), dict(properties=torch.tensor([[2.0]])),
              dict(properties=torch.tensor([[3.0]])),
              dict(groups=torch.tensor([[1, 0]]), properties=torch.tensor([[3.0]]))]
    losses = [loss(model, **asked) for asked in every]
    assert len(set(losses)) == len(every)
    assert loss(model, groups=torch.zeros(1, 2), properties=torch.full((1, 1), torch.nan)) == losses[0]
    again = InertialAR.from_pretrained(model.save_pretrained(tmp_path))
    assert again.config == model.config and [loss(again, **asked) for asked in every] == losses


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('max_atoms', 'channels', 'heads', 'type_layers', 'coord_layers', 'head_channels', 'head_layers',
                   'num_neighbors', 'num_landmarks', 'num_draws')],
    *[({name: -1}, rf"'{name}' must not be negative \(got -1")
      for name in ('num_groups', 'environment_channels', 'valence_channels', 'pair_channels', 'coord_weight',
                   'context_noise')],
    *[({name: 0.0}, rf"'{name}' must be positive \(got 0.0\)") for name in ('sigma_data', 'noise_std')],
    *[({name: 1.0}, rf"'{name}' must be in \[0, 1\) \(got 1.0\)") for name in ('dropout', 'condition_dropout')],
    (dict(sigma_data=float('nan')), r"'sigma_data' must be a finite number \(got nan\)"),
    (dict(elements=()), r"'elements' must be distinct atomic numbers \(got \(\)\)"),
    (dict(elements=(1, 1)), r"'elements' must be distinct atomic numbers \(got \(1, 1\)\)"),
    (dict(elements=[0, 1]), r"'elements' must be distinct atomic numbers \(got \(0, 1\)\)"),
    (dict(elements=(1, 119)), r"'elements' must be distinct atomic numbers"),
    (dict(modulation='none'), r"'modulation' must be one of each, shared, additive \(got 'none'\)"),
    (dict(properties=('gap', 'gap')), r"'properties' must be distinct \(got \('gap', 'gap'\)\)"),
    (dict(num_groups=2, group_names=['a', 'a']), r"'group_names' must be distinct \(got \('a', 'a'\)\)"),
    (dict(num_groups=3, group_names=['a', 'b']), r"'group_names' must name all 3 groups \(got 2\)"),
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
