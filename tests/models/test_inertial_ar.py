import dataclasses
import json

import pytest
import torch
from helpers.bonded import canonical_molecules

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.nn.nystrom import NystromFeatures


def with_fields(molecule, **fields):
    data = molecule.clone()
    for name, x in fields.items():
        data[name] = x
    return data


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
    assert sorted(InertialARConfig.presets) == ['base', 'paper', 'small', 'tiny']


@pytest.mark.parametrize('name', sorted(InertialARConfig.presets))
def test_a_configuration_survives_json(name):
    config = InertialARConfig.preset(name, max_atoms=17)
    assert config.max_atoms == 17
    again = InertialARConfig(**json.loads(json.dumps(config.to_dict())))
    assert again == config and hash(again) == hash(config)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.heads = 3


def test_a_model_is_built_from_a_configuration_or_its_fields():
    torch.manual_seed(0)
    fields = dict(channels=32, heads=2, graph_layers=1)
    a, b = InertialAR(InertialARConfig(**fields)), InertialAR(**fields)
    assert a.config == b.config and num_parameters(a) == num_parameters(b)
    assert repr(a) == f"InertialAR({num_parameters(a):,} parameters, bonds=True)"


def test_fit_landmarks_reaches_every_kernel(qm9):
    pos = torch.cat([m.pos for m in qm9])
    model = InertialAR(channels=32, heads=2, num_landmarks=8, bonds=False)
    kernels = [m for m in model.modules() if isinstance(m, NystromFeatures)]
    before = [m.landmarks.clone() for m in kernels]
    assert model.fit_landmarks(pos) is model and len(kernels) == 1
    assert all(not torch.equal(a, m.landmarks) for a, m in zip(before, kernels, strict=True))


SMALL = {True: dict(channels=32, heads=2, graph_layers=1, place_layers=1, message_channels=16, field_channels=8,
                    head_channels=16, head_layers=1),
         False: dict(channels=32, heads=2, num_landmarks=8, type_layers=1, coord_layers=1, head_channels=16,
                     head_layers=1, bonds=False, order='smiles')}


@pytest.mark.parametrize('bonds', [True, False])
def test_every_parameter_takes_part_whatever_is_asked_for(bonds):
    """As DistributedDataParallel wants it."""
    molecule = canonical_molecules(1, first=40)[0]  # it closes a ring
    model = InertialAR(**SMALL[bonds], num_groups=3, properties=('gap', 'mu')).train()
    model.fit_properties(torch.tensor([[0.0, 1.0], [2.0, 3.0]]))
    every = [dict(), dict(groups=torch.ones(1, 3)), dict(properties=torch.tensor([[1.0, torch.nan]]))]
    for asked in every:
        batch = with_fields(molecule, **asked)
        model.zero_grad()
        model(batch, torch.Generator().manual_seed(0)).total.backward()
        assert [name for name, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize('bonds', [True, False])
def test_groups_and_properties_reach_the_loss_and_their_range_the_weights(tmp_path, bonds):
    molecule = canonical_molecules(1)[0]
    fields = dict(num_groups=2, group_names=('a', 'b'), properties=('gap', ))
    model = InertialAR(**SMALL[bonds], **fields).fit_properties(torch.tensor([[1.0], [5.0]])).eval()
    for name, p in model.named_parameters():
        if 'type_head' in name and p.dim() > 1:
            torch.nn.init.normal_(p)

    def loss(model, **conditions):
        return model(with_fields(molecule, **conditions), torch.Generator().manual_seed(0)).total.item()
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
                   'num_neighbors', 'num_landmarks', 'num_draws', 'graph_layers', 'place_layers', 'pair_channels',
                   'message_channels', 'message_rounds', 'field_channels', 'max_closures')],
    *[({name: -1}, rf"'{name}' must not be negative \(got -1")
      for name in ('num_groups', 'coord_weight', 'context_noise')],
    *[({name: 0.0}, rf"'{name}' must be positive \(got 0.0\)") for name in ('sigma_data', 'noise_std', 'width')],
    *[({name: 1.0}, rf"'{name}' must be in \[0, 1\) \(got 1.0\)") for name in ('dropout', 'condition_dropout')],
    (dict(sigma_data=float('nan')), r"'sigma_data' must be a finite number \(got nan\)"),
    (dict(bonds=False, elements=()), r"'elements' must be distinct atomic numbers \(got \(\)\)"),
    (dict(bonds=False, elements=(1, 1)), r"'elements' must be distinct atomic numbers \(got \(1, 1\)\)"),
    (dict(bonds=False, elements=[0, 1]), r"'elements' must be distinct atomic numbers \(got \(0, 1\)\)"),
    (dict(bonds=False, elements=(1, 119)), r"'elements' must be distinct atomic numbers"),
    (dict(properties=('gap', 'gap')), r"'properties' must be distinct \(got \('gap', 'gap'\)\)"),
    (dict(num_groups=2, group_names=['a', 'a']), r"'group_names' must be distinct \(got \('a', 'a'\)\)"),
    (dict(num_groups=3, group_names=['a', 'b']), r"'group_names' must name all 3 groups \(got 2\)"),
    (dict(order='random', bonds=False), r"'order' must be 'smiles', 'heavy_first' or 'rank' \(got 'random'\)"),
    (dict(order='smiles'), r"'order' must be 'heavy_first' for a model that writes bonds \(got 'smiles'\)"),
    (dict(atom_types=()), r"'atom_types' must name a heavy atom or more \(got none\)"),
    (dict(atom_types=((6, 0, 4, 4), (6, 0, 4, 4))), r"'atom_types' must be distinct"),
    (dict(atom_types=((1, 0, 0, 1), )), r"'atom_types' must be \(atomic number above 1, .* \(got \(1, 0, 0, 1\)\)"),
    (dict(atom_types=((6, 0, 5, 4), )), r"hydrogens, valence from there to 12\) \(got \(6, 0, 5, 4\)\)"),
    (dict(atom_types=((6, 0, 4), )), r"'atom_types' must be a tuple of tuples: each must be a tuple of 4 integers"),
], ids=str)
def test_errors_of_the_configuration(fields, message):
    with pytest.raises(ValueError, match=message):
        InertialARConfig(**fields)


def test_atom_types_settle_the_elements():
    assert InertialARConfig(atom_types=((16, 0, 2, 2), (6, 0, 4, 4))).elements == (1, 6, 16)


@pytest.mark.parametrize('build, message', [
    (lambda: InertialARConfig.preset('huge'), r"'preset' must be one of tiny, small, base, paper \(got 'huge'\)"),
    (lambda: InertialAR(InertialARConfig(), heads=2), r"give 'config' or its fields, not both \(got \['heads'\]\)"),
    (lambda: InertialAR(layers=2), r"'layers' is not a field of InertialARConfig"),
    (lambda: InertialAR(channels=30, heads=4), r"'channels' must be a multiple of 'heads' = 4 \(got 30\)"),
    (lambda: InertialAR(channels=30, heads=4, bonds=False), r"'channels' must be a multiple of 2 \* heads = 8"),
], ids=range(5))
def test_errors_of_the_model(build, message):
    with pytest.raises(ValueError, match=message):
        build()
