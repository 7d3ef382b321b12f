"""What a generator takes: molecules in any form, and any state of PyTorch that a user may have set."""
import copy

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import InertialAR, Quetzal, from_smiles, to_mol
from torch_geometric_inertial.chem import write_sdf
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.frames import random_rotations
from torch_geometric_inertial.metrics import hydrogen_report
from torch_geometric_inertial.models import QuetzalConfig, TrainingDomain

STEPS = dict(num_steps=2)


@pytest.fixture(scope='module')
def model():
    return InertialAR.from_pretrained('qm9')


@pytest.fixture(scope='module')
def molecules():
    return [QM9Sample()[i] for i in range(3, 6)]


@pytest.fixture(scope='module')
def expected(model, molecules):
    return model.log_prob(Batch.from_data_list(molecules), **STEPS)


def without_bonds(data):
    return Data(z=data.z, pos=data.pos)


FORMS = {
    'list': list,
    'generator': iter,
    'mols': lambda molecules: [to_mol(m) for m in molecules],
    'mixed': lambda molecules: [to_mol(molecules[0]), *molecules[1:]],
    'atoms alone': lambda molecules: [without_bonds(m) for m in molecules],
    'batch of atoms alone': lambda molecules: Batch.from_data_list([without_bonds(m) for m in molecules]),
}


@pytest.mark.parametrize('form', FORMS)
def test_the_likelihood_does_not_depend_on_the_form(model, molecules, expected, form):
    found = model.log_prob(FORMS[form](molecules), **STEPS)
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, atol=2e-3, rtol=1e-4)  # files and RDKit keep fewer digits


def test_a_file_and_one_molecule(model, molecules, expected, tmp_path):
    write_sdf(molecules, tmp_path / 'three.sdf')
    total = model.log_prob(tmp_path / 'three.sdf', **STEPS).total
    torch.testing.assert_close(total, expected.total, atol=0.1, rtol=1e-3)  # four decimals
    torch.testing.assert_close(model.log_prob(without_bonds(molecules[0]), **STEPS).total, expected.total[:1],
                               atol=2e-3, rtol=1e-4)


def test_hydrogens_come_back_one_for_one_and_a_list_for_several(model, molecules):
    alone, several = model.add_hydrogens(to_mol(molecules[0])), model.add_hydrogens([to_mol(m) for m in molecules])
    assert isinstance(alone, Data) and isinstance(several, list) and len(several) == 3
    assert alone.z.tolist() == several[0].z.tolist() == molecules[0].z.tolist()
    (batch, ) = model.add_hydrogens(Batch.from_data_list([without_bonds(molecules[0])]))
    assert sorted(batch.z.tolist()) == sorted(molecules[0].z.tolist())


def test_a_smiles_is_a_scaffold(model):
    heavy = from_smiles('CC(C)O')
    kept = heavy.subgraph(heavy.z > 1)
    for data in model.complete(to_mol(kept), 2, num_steps=4):
        torch.testing.assert_close(data.pos[:4], kept.pos.to(data.pos.dtype), atol=1e-3, rtol=0)
    with pytest.raises(ValueError, match='every valence of the scaffold is taken'):
        model.complete('CCO')  # a SMILES tells of all hydrogens


def test_several_scaffolds_are_grown_one_after_the_other(model):
    scaffolds = [heavy_atoms('CCO'), to_mol(heavy_atoms('CN'))]
    made = model.complete(scaffolds, 2, num_steps=4)
    for i, data in enumerate(made):
        part = scaffolds[0].z if i < 2 else torch.tensor([6, 7])
        assert data.z[:part.numel()].tolist() == part.tolist() and int(data.fixed.sum()) == part.numel()
    assert len(made) == 4 and torch.equal(made[0].pos[:3], scaffolds[0].pos)
    for a, b in zip(made[:2], model.complete(scaffolds[0], 2, num_steps=4), strict=True):
        assert torch.equal(a.z, b.z) and torch.equal(a.edge_index, b.edge_index)
        torch.testing.assert_close(a.pos, b.pos, atol=1e-2, rtol=0)  # rounding by width of the batch
    assert model.complete([]) == model.add_hydrogens([]) == []
    with pytest.raises(ValueError, match=r"molecule 1 of 'scaffold' is not a molecule .* the model knows no S"):
        model.complete([heavy_atoms('CCO'), heavy_atoms('CS')])


@pytest.mark.parametrize('number', [100, 2000])
def test_neither_pose_nor_order_matters(model, number):
    data, generator = QM9Sample()[number], torch.Generator().manual_seed(0)
    perm = torch.randperm(data.num_nodes, generator=generator)
    turn = random_rotations(1, 180.0, generator)[0]
    other = Data(z=data.z[perm], pos=(data.pos @ turn.T + 5)[perm], edge_index=perm.argsort()[data.edge_index],
                 edge_attr=data.edge_attr, formal_charge=data.formal_charge[perm])
    given, found = model.log_prob(data), model.log_prob(other)
    torch.testing.assert_close(found.total, given.total, atol=2e-2, rtol=0)
    torch.testing.assert_close(found.coord, given.coord[perm], atol=2e-2, rtol=0)
    for whole in (data, other):
        placed = model.add_hydrogens(whole.subgraph(whole.z > 1))
        assert sorted(placed.z.tolist()) == sorted(data.z.tolist())


@pytest.mark.parametrize('arguments, message', [
    (dict(groups=3), r"'groups' must be a tensor of 0 and 1, a name or several names \(got 3\)"),
    (dict(groups='nitril'), r"the model does not know the group 'nitril' \(it knows carbon, .*nitrile"),
    (dict(properties='gap'), r"'properties' must be a dict of values by name \(got 'gap'\)"),
    (dict(properties=dict(gap='big')), r"property 'gap' must be a number or \[2\] \(got 'big'\)"),
    (dict(batch_size=2.5), r"'batch_size' must be a whole number \(got 2.5\)"),
    (dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
    (dict(seed='a'), r"'seed' must be a whole number \(got 'a'\)"),
    (dict(temperature='hot'), r"'temperature' must be a number \(got 'hot'\)"),
    (dict(top_p=True), r"'top_p' must be a number \(got True\)"),
])
def test_arguments_of_another_type_are_named(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        model.generate(2, **arguments)
    if 'properties' not in arguments:
        with pytest.raises(ValueError, match=message):
            model.complete(heavy_atoms('CO'), 2, **arguments)


def test_the_number_of_molecules_is_a_whole_one(model):
    for number in (2.5, 'two', True):
        with pytest.raises(ValueError, match=f"'num_samples' must be a whole number \\(got {number!r}"):
            model.generate(number)


def test_one_group_by_its_name(model):
    a, b = (model.generate(2, groups=groups, num_steps=2) for groups in ('nitrile', ['nitrile']))
    assert all(torch.equal(x.pos, y.pos) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize('data, message', [
    ([], r"'data' must hold at least one molecule \(got none\)"),
    (3, r'molecules must be a Data, .* \(got int\)'),
    (['C', None], r'molecule 1: a molecule must be a Data, .* \(got NoneType\)'),
    ([from_smiles('CO'), Data(z=torch.tensor([6, 6]), pos=torch.zeros(2, 3))],
     r'molecule 1 is not a molecule for this model: '),
], ids=['none', 'number', 'None', 'coincident'])
def test_what_is_no_molecule_is_named(model, data, message):
    with pytest.raises(ValueError, match=message):
        model.log_prob(data)


@pytest.mark.parametrize('change, message', [
    (lambda pos: pos.index_fill(0, torch.tensor([1]), torch.nan), r"'pos' must be finite \(got \[nan, .* at atom 1"),
    (lambda pos: pos.index_fill(0, torch.tensor([3]), torch.inf), r"'pos' must be finite \(got \[inf, .* at atom 3"),
    (lambda pos: pos.index_fill(0, torch.tensor([1]), 1e30), r"'pos' must lie within 1e\+06 Å of the origin"),
    (lambda pos: pos.index_fill(0, torch.tensor([1]), 9e5), r"'pos' must be within 100000 Å of the molecule's first"),
    (lambda pos: pos[[0, 0, 2, 3]], r'at least 0.4 Å apart \(got 0 Å between atom 0, C, and atom 1, C\)'),
    (lambda pos: pos[[0, 1, 2, 2]], r'at least 0.4 Å apart \(got 0 Å between atom 2, O, and atom 3, H\)'),
], ids=['nan', 'infinite hydrogen', 'overflow', 'far', 'coincident', 'coincident hydrogen'])
def test_places_that_are_none_are_refused_with_bonds_as_without(model, change, message):
    """A scaffold whose bonds are given is not looked at for its distances, which was once all that was checked."""
    ethanol = from_smiles('CCO')
    part = ethanol.subgraph(torch.tensor([0, 1, 2, 8]))  # with the hydrogen of the hydroxyl group
    assert part.z.tolist() == [6, 6, 8, 1] and part.num_edges == 6
    assert model.complete(part, 1, num_steps=2)[0].pos[:4].equal(part.pos)
    part.pos = change(part.pos)
    for call in (model.complete, model.add_hydrogens):
        with pytest.raises(ValueError, match=f'is not a molecule for this model: .*{message}'):
            call(part, num_steps=2)
    whole = ethanol.clone()
    whole.pos[[0, 1, 2, 8]] = part.pos
    with pytest.raises(ValueError, match=message.replace('atom 3', 'atom 8')):
        model.log_prob(whole, **STEPS)


LARGE = 'has 10 heavy atoms; the training molecules had 1 to 9'


def heavy_atoms(smiles):
    data = from_smiles(smiles)
    return without_bonds(data.subgraph(data.z > 1))


@pytest.mark.parametrize('call, name', [
    (lambda m, **kwargs: m.log_prob(['CO', 'c1ccc2ccccc2c1'], **STEPS, **kwargs), 'molecule 1'),
    (lambda m, **kwargs: m.add_hydrogens(heavy_atoms('c1ccc2ccccc2c1'), num_steps=2, **kwargs), "'heavy'"),
    (lambda m, **kwargs: m.add_hydrogens([heavy_atoms('CO'), heavy_atoms('c1ccc2ccccc2c1')], num_steps=2, **kwargs),
     "molecule 1 of 'heavy'"),
    (lambda m, **kwargs: m.complete(heavy_atoms('c1ccc2ccccc2c1'), 2, num_steps=2, **kwargs), "'scaffold'"),
], ids=['log_prob', 'add_hydrogens', 'list', 'complete'])
def test_molecules_larger_than_those_of_the_training_are_named_once(model, call, name):
    with pytest.warns(UserWarning) as caught:
        call(model)
    assert [str(w.message) for w in caught] == [f'{name} {LARGE}: the model may be wrong there']
    with pytest.raises(ValueError, match=f'{name} {LARGE}'):
        call(model, strict=True)


def test_many_large_molecules_are_one_warning(model):
    with pytest.warns(UserWarning) as caught:
        model.add_hydrogens([heavy_atoms('c1ccc2ccccc2c1')] * 7, num_steps=2)
    expected = ', '.join(f"molecule {i} of 'heavy' {LARGE}" for i in range(5))
    assert [str(w.message) for w in caught] == [f'{expected} (and 2 more): the model may be wrong there']


def test_a_model_warns_of_nothing_that_it_has_seen(model, molecules, recwarn):
    model.log_prob(molecules, **STEPS, strict=True)
    model.add_hydrogens([heavy_atoms('CO'), heavy_atoms('N')], num_steps=2, strict=True)
    model.complete(heavy_atoms('C'), num_steps=2, strict=True)
    assert not recwarn.list


def test_the_domain_is_that_of_the_training(tmp_path, model):
    narrow = InertialAR.from_pretrained('qm9')
    narrow.training_domain = TrainingDomain((3, 12), (1, 6), (), (1, 4))
    with pytest.raises(ValueError, match='molecule 0 has elements that the training molecules lack: O'):
        narrow.log_prob('CO', **STEPS, strict=True)
    with pytest.raises(ValueError, match="'heavy' has 5 heavy atoms; the training molecules had 1 to 4"):
        narrow.add_hydrogens(heavy_atoms('CCCCC'), strict=True)
    narrow.training_domain = None
    narrow.add_hydrogens(heavy_atoms('CCCCC'), num_steps=2, strict=True)


def test_one_bad_molecule_of_many_keeps_its_place_in_the_stream(model, molecules):
    bad = Data(z=torch.tensor([6, 16]), pos=torch.tensor([[0.0, 0, 0], [1.82, 0, 0]]))
    heavy = [heavy_atoms('CO'), bad, heavy_atoms('CCO'), None, heavy_atoms('c1ccc2ccccc2c1')]
    written = list(model.stream_hydrogens(heavy, num_steps=4, strict=True))
    assert [type(data) for data in written] == [Data, ValueError, Data, ValueError, ValueError]
    assert 'molecule 1 is not a molecule for this model: the model knows no S' in str(written[1])
    assert 'a molecule must be' in str(written[3]) and f'molecule 4 {LARGE}' == str(written[4])
    alone = model.add_hydrogens([heavy_atoms('CO'), heavy_atoms('N'), heavy_atoms('CCO')], num_steps=4)
    for a, b in ((written[0], alone[0]), (written[2], alone[2])):  # what others are does not matter
        torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)
    report = hydrogen_report(written, [from_smiles('CO'), bad, from_smiles('CCO'), bad, bad])
    assert report.right_count == 0.4
    with pytest.raises(ValueError, match=r"molecule 1 of 'heavy' is not a molecule .* the model knows no S"):
        model.add_hydrogens(heavy[:3])


def test_inference_mode_changes_nothing(model, molecules, expected):
    before = model.generate(2, num_steps=4)
    with torch.inference_mode():
        loaded = InertialAR.from_pretrained('qm9')
        inside, made = loaded.log_prob(molecules, **STEPS), loaded.generate(2, num_steps=4)
        copies = [copy.copy(m).apply(torch.clone) for m in molecules]
    outside = loaded.log_prob(copies, **STEPS)
    torch.testing.assert_close(inside.total, expected.total, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(outside.total, expected.total, atol=2e-3, rtol=1e-4)
    assert [m.z.tolist() for m in made] == [m.z.tolist() for m in before]
    assert not any(p.is_inference() for p in loaded.parameters())


def test_a_model_made_in_inference_mode_says_so(model, molecules):
    with torch.inference_mode():
        made = InertialAR(model.config)
    with pytest.raises(ValueError, match=r'made under torch.inference_mode, where nothing has derivatives'):
        made.log_prob(molecules, **STEPS)


def test_the_default_dtype_and_double_precision_draw_the_same_molecules(model, molecules):
    molecules = molecules[:2]  # the third has atoms in a line, around which float32 turns the frame of a place
    before, expected = model.generate(2, num_steps=8), model.log_prob(molecules)
    double = InertialAR.from_pretrained('qm9').double()
    torch.set_default_dtype(torch.float64)
    try:
        default = InertialAR.from_pretrained('qm9')
        found = [(m.generate(2, num_steps=8), m.log_prob(molecules)) for m in (default, double)]
    finally:
        torch.set_default_dtype(torch.float32)
    for made, likelihood in found:
        assert [m.z.tolist() for m in made] == [m.z.tolist() for m in before]
        torch.testing.assert_close(likelihood.total, expected.total, atol=1e-2, rtol=0)


@pytest.mark.parametrize('call', [lambda m, data: m.log_prob(data), lambda m, data: m.generate(1)], ids=['log_prob',
                                                                                                        'generate'])
def test_half_precision_is_refused(molecules, call):
    half = InertialAR.from_pretrained('qm9').half()
    with pytest.raises(ValueError, match=r'the model must be in .*, torch.bfloat16 \(got torch.float16, in which it'):
        call(half, molecules)
    without_bonds = Quetzal(QuetzalConfig.preset('tiny')).bfloat16()
    with pytest.raises(ValueError, match=r'in torch.float32, torch.float64 \(got torch.bfloat16, in which it would'):
        call(without_bonds, molecules)
