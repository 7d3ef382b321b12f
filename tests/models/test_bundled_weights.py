"""The weights that come with the package."""
import json
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch_geometric.data import Batch, Data

import torch_geometric_inertial
from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate, hit_rate, hydrogen_report
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.transforms import canonical

WEIGHTS = Path(torch_geometric_inertial.__file__).parent / 'weights'


@pytest.fixture(scope='module')
def model() -> InertialAR:
    return InertialAR.from_pretrained('qm9')


@pytest.mark.parametrize('folder', sorted(WEIGHTS.iterdir()), ids=lambda folder: folder.name)
def test_they_are_small_and_have_a_card(folder):
    assert sum(file.stat().st_size for file in folder.iterdir()) < 20e6
    card = (folder / 'README.md').read_text()
    assert folder.name in card and '**Data.**' in card and 'CC0' in card and '\n    python ' in card


@pytest.mark.parametrize('folder', sorted(WEIGHTS.iterdir()), ids=lambda folder: folder.name)
def test_their_cards_have_the_front_matter_of_the_hub(folder):
    _, front, text = (folder / 'README.md').read_text().split('---\n', 2)
    facts = json.loads((folder / 'config.json').read_text())
    said = yaml.safe_load(front)
    assert set(said) == {'library_name', 'license', 'tags'} and said['library_name'] == 'torch_geometric_inertial'
    assert said['license'] == facts['license'].lower() == 'cc0-1.0'
    assert 'pytorch-geometric' in said['tags'] and all(isinstance(tag, str) for tag in said['tags'])
    if facts['model'] != 'InertialAR':
        loaded = AtomPredictor.from_pretrained(folder)
        assert f'{sum(p.numel() for p in loaded.parameters()):,} parameters' in text
    steps = facts['training']['steps']
    assert all(f'{n:,}' in text for n in (steps if isinstance(steps, list) else [steps]))
    for result in re.findall(r'`(benchmarks/results/[\w.]+)`', text):
        assert (WEIGHTS.parents[1] / result).is_file()


def test_they_write_molecules_that_are_mostly_stable(model):
    pytest.importorskip('rdkit')
    molecules = model.generate(100, seed=0)
    assert all(data.pos.isfinite().all() for data in molecules)
    assert {z for data in molecules for z in data.z.tolist()} <= {1, 6, 7, 8}
    report = evaluate(molecules, 'edm-qm9')
    assert report.atom_stability > 0.97 and report.molecule_stability > 0.8  # real QM9: 0.994 and 0.960
    assert evaluate(molecules, 'bonds').ok > 0.9


def test_real_molecules_are_likelier_than_distorted_ones_and_other_isomers(model):
    pytest.importorskip('rdkit')
    prepare = canonical(model.config.order)
    real = [prepare(data) for data in QM9Sample()[1000:1040]]
    generator = torch.Generator().manual_seed(0)
    distorted = []
    for data in real:
        other = data.clone()
        other.pos = data.pos + 0.1 * torch.randn(data.pos.shape, generator=generator)
        distorted.append(other)
    with torch.no_grad():
        a, b = (model(Batch.from_data_list(molecules), torch.Generator().manual_seed(0))
                for molecules in (real, distorted))
    assert a.coord < 0.5 * b.coord and a.type == b.type


def test_hydrogens_find_their_places(model):
    truth = [data for data in QM9Sample()[2000:2040] if int((data.z > 1).sum()) > 0]
    heavy = [Data(z=data.z[data.z > 1], pos=data.pos[data.z > 1]) for data in truth]
    report = hydrogen_report(model.add_hydrogens(heavy), truth)
    assert report.right_count > 0.9 and report.below[-1] > 0.85


def test_what_is_asked_for_comes_more_often(model):
    pytest.importorskip('rdkit')
    asked = torch.tensor([float(name == 'nitrile') for name in model.config.group_names]).expand(100, -1)
    wanted = hit_rate(model.generate(100, groups=['nitrile'], guidance_scale=2.0, seed=0), asked).hit_rate
    free = hit_rate(model.generate(100, seed=0), asked).hit_rate
    assert wanted > 2 * free and wanted > 0.25  # one molecule of eight in QM9 is one


def test_asked_for_values_move_the_molecules(model):
    low, high = (model.generate(100, properties={'gap': gap}, seed=0) for gap in (4.0, 9.0))
    multiple_bonds = [sum(int((data.edge_attr > 1).sum()) for data in molecules) for molecules in (low, high)]
    assert multiple_bonds[0] > 1.3 * multiple_bonds[1]  # a small gap is that of unsaturated molecules


def test_the_likelihood_is_the_same_in_double_precision():
    r"""Also of symmetric molecules, where many atoms are equally near."""
    molecules = [QM9Sample()[i] for i in (5, 8, 26, 146, 165)]
    single = InertialAR.from_pretrained('qm9').log_prob(molecules).total
    batch = Batch.from_data_list(molecules)
    batch.pos = batch.pos.double()
    double = InertialAR.from_pretrained('qm9').double().log_prob(batch).total
    torch.testing.assert_close(single.double(), double, atol=5e-3, rtol=0)
