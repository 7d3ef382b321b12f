r"""The configurations of GeoMFormer, their sizes, and what they refuse."""
import dataclasses
import json

import pytest
import torch

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.models import geomformer


#: Preset -> what there is beside 25 d² L, as (linear biases, norms) a block and the rest of the model.
def expected_parameters(c):
    d, h, k, t = c.channels, c.heads, c.num_kernels, len(c.elements)
    networks = 2 if c.velocity == 'paired' else 1
    matrices = (4 + 4 + 6 + 6) * d * d + 5 * d * d
    biases = (4 * d) + (2 * d) + (2 * d) + (d + d) + d  # ISA; ICA; gate of ECA; FFN of scalars; gate of FFN of vectors
    norms = 2 * (2 * d + d)
    pair_basis, atom_basis = 2 * t * t + 2 * k, 2 * t + 2 * d
    encoding = pair_basis + (k * k + k) + (k * 4 * h + 4 * h)
    total = networks * (c.num_layers * (matrices + biases + norms) + t * d + encoding)
    first = k * d if c.equivariant_init == 'neighbors' else atom_basis + d * d
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


def test_it_has_few_fields_of_its_own():
    assert len(GeoMFormerConfig.__annotations__) <= 24


def test_a_model_is_built_from_a_configuration_or_its_fields():
    fields = dict(channels=16, heads=2, num_layers=1)
    a, b = GeoMFormer(GeoMFormerConfig(**fields)), GeoMFormer(**fields)
    count = sum(p.numel() for p in a.parameters())
    assert a.config == b.config
    assert repr(b) == f"GeoMFormer({count:,} parameters, scalar_head='sum', vector_head='none')"


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('channels', 'heads', 'num_layers', 'num_kernels', 'num_scalars')],
    *[({name: 1.0}, rf"'{name}' must be in \[0, 1\) \(got 1.0\)")
      for name in ('input_dropout', 'attention_dropout', 'activation_dropout', 'dropout', 'drop_path')],
    *[({name: 'odd'}, rf"'{name}' must be one of .* \(got 'odd'\)")
      for name in ('radial', 'equivariant_init', 'velocity', 'equ_norm', 'head_norm', 'scalar_head', 'vector_head',
                   'periodic')],
    (dict(channels=10, heads=4), r"'channels' must be a multiple of heads = 4 \(got 10\)"),
    (dict(elements=(1, 1)), r"'elements' must be distinct \(got \(1, 1\)\)"),
    (dict(charges=(0, 0)), r"'charges' must be distinct \(got \(0, 0\)\)"),
    (dict(spins=(0, 1)), r"'spins' are multiplicities 2 S \+ 1, which are at least 1 \(got \(0, 1\)\)"),
    (dict(num_tags=1), r"'num_tags' must be 0 or at least 2 \(got 1\)"),
    (dict(softening=-1.0), r"'softening' must not be negative \(got -1.0\)"),
    (dict(cutoff=0.0), r"'cutoff' must be positive \(got 0.0\)"),
    (dict(time_steps=-1), r"'time_steps' must not be negative \(got -1\)"),
    (dict(time_steps=4),
     r"'time_steps' are for models that read velocities .* \(got velocity='none', scalar_head='sum'"),
    (dict(step_share=-0.1), r"'step_share' must not be negative \(got -0.1\)"),
    (dict(step_share=0.5), r"'step_share' needs 'time_steps', .* \(got step_share=0.5, time_steps=0\)"),
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
