import json

import pytest
import torch

from torch_geometric_inertial.models import TrainingDomain
from torch_geometric_inertial.models.pretrained import BUNDLED
from torch_geometric_inertial.models.training_domain import MOST_FORMULAS, formula
from torch_geometric_inertial.training import PackedTargets

METHANOL, WATER, CARBON_DIOXIDE = ([6, 8, 1, 1, 1, 1], [8, 1, 1], [6, 8, 8])


def domain_of(*molecules):
    length = torch.tensor([0, *(len(z) for z in molecules)])
    return TrainingDomain.of_molecules(torch.tensor([k for z in molecules for k in z]), length.cumsum(0))


@pytest.mark.parametrize('z, name', [
    (METHANOL, 'CH4O'), (WATER, 'H2O'), ([17, 11], 'ClNa'), ([6], 'C'), ([35, 6, 1, 17, 9], 'CHBrClF'), ([8, 8], 'O2')])
def test_formulas_are_in_the_order_of_hill(z, name):
    assert formula(torch.tensor(z)) == name


def test_of_a_few_molecules():
    domain = domain_of(METHANOL, WATER, METHANOL)
    assert domain == TrainingDomain((3, 6), (1, 6, 8), ('CH4O', 'H2O'), (1, 2))
    assert domain.strangeness(torch.tensor(METHANOL)) is None
    assert domain.strangeness(torch.tensor(CARBON_DIOXIDE)) == 'is CO2; all training molecules were CH4O or H2O'
    assert domain.strangeness(torch.tensor([7, 1, 1, 1])) == 'has elements that the training molecules lack: N'


def test_of_many_molecules_and_of_charges():
    domain = domain_of(*([6] * n + [1] for n in range(1, MOST_FORMULAS + 3)))
    assert domain.formulas == () and domain.num_atoms == (2, MOST_FORMULAS + 3)
    assert domain.strangeness(torch.tensor([6] * 5)) is None
    assert domain.strangeness(torch.tensor([6])) == 'has 1 atoms; the training molecules had 2 to 23'
    assert domain.strangeness(torch.tensor([6] * 30)) == 'has 30 heavy atoms; the training molecules had 1 to 22'
    charges = domain_of([-1, 1, 1], [1, 1, 1])
    assert charges == TrainingDomain((3, 3), (-1, 1))
    assert charges.strangeness(torch.tensor([1, 1])) == 'has 2 atoms; the training molecules had 3'
    assert charges.strangeness(torch.tensor([0, 1, 1])) == 'has elements that the training molecules lack: 0'


@pytest.mark.parametrize('lacks, z, why', [
    ('hydrogens', [6, 8], None), ('hydrogens', [6, 8, 1], None), ('hydrogens', [8] * 5, None),
    ('hydrogens', [6] * 6, 'has 6 heavy atoms; the training molecules had 2 to 5'),
    ('hydrogens', [6], 'has 1 heavy atoms; the training molecules had 2 to 5'), ('atoms', [6], None),
    ('atoms', [6] * 6, 'has 6 heavy atoms; the training molecules had 2 to 5'),
    ('atoms', [6, *[1] * 8], 'has 9 atoms; the training molecules had 6 to 8'),
    ('atoms', [7], 'has elements that the training molecules lack: N')])
def test_of_molecules_that_lack_atoms(lacks, z, why):
    domain = domain_of(METHANOL, [6, 8, 8, 8, 8, 1, 1, 1])
    assert domain.num_heavy_atoms == (2, 5) and domain.strangeness(torch.tensor(z), lacks) == why


def test_of_a_training_set():
    packed = PackedTargets(torch.tensor([0, 6, 9]), dict(z=torch.tensor(METHANOL + WATER), pos=torch.zeros(9, 3)))
    assert TrainingDomain.of_training_set(packed) == domain_of(METHANOL, WATER)
    assert TrainingDomain.of_training_set([METHANOL, WATER]) is None


def test_through_json():
    domain = domain_of(METHANOL, WATER)
    assert TrainingDomain.of_facts(json.loads(json.dumps(dict(training_domain=domain.to_dict())))) == domain
    assert TrainingDomain.of_facts({}) is None


@pytest.mark.parametrize('name, domain', [
    ('ethanol', TrainingDomain((9, 9), (1, 6, 8), ('C2H6O', ), (3, 3))), ('n-body', TrainingDomain((5, 5), (-1, 1))),
    ('qm9', TrainingDomain((3, 29), (1, 6, 7, 8), (), (1, 9))),
    ('qm9-homo', TrainingDomain((3, 29), (1, 6, 7, 8), (), (1, 9)))])
def test_bundled_weights_state_theirs(name, domain):
    assert TrainingDomain.of_facts(json.loads((BUNDLED / name / 'config.json').read_text())) == domain


@pytest.mark.parametrize('stated, message', [
    ('ethanol', r"'training_domain' must have 'num_atoms' and 'elements' \(got 'ethanol'\)"),
    (dict(elements=[1]), r"'training_domain' must have 'num_atoms' and 'elements'"),
    (dict(elements=[1], num_atoms=[3, 2]), r"'num_atoms' must be a smallest and a largest .* \(got \(3, 2\)\)"),
    (dict(elements=[], num_atoms=[1, 2]), r"'elements' must hold at least one type of atoms"),
    (dict(elements=[1], num_atoms=[1, 2], num_heavy_atoms=[0, 3]), r"'num_heavy_atoms' must be .* 3\) and \(1, 2\)"),
    (dict(elements='CH', num_atoms=[1, 2]), r"'elements' must be a tuple of integers \(got 'CH'\)"),
    (dict(elements=[1], num_atoms=[1, 2], smiles=[]), r"'smiles' is not a field of TrainingDomain"),
], ids=range(7))
def test_nonsense_in_a_file(stated, message):
    with pytest.raises(ValueError, match=message):
        TrainingDomain.of_facts(dict(training_domain=stated))
