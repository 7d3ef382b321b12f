r"""`inertial predict`."""
import re
import subprocess
import sys

import pytest
import torch
from helpers.predictors import small

from torch_geometric_inertial import PaiNN
from torch_geometric_inertial.chem import read_molecules, read_sdf, read_xyz, write_sdf, write_xyz
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import PropertyRegressor

pytest.importorskip('jsonargparse')


@pytest.fixture
def file(tmp_path):
    molecules = list(QM9Sample()[20:25])
    for i, data in enumerate(molecules):
        data.title = f'number {i}'
    write_sdf(molecules, tmp_path / 'five.sdf')
    return tmp_path / 'five.sdf'


@pytest.fixture(scope='session')
def energies(tmp_path_factory):
    """A folder with a small untrained model of energies and forces that does not state its unit."""
    model = small(dtype=torch.float32, vector_head='conservative', cutoff=4.0)
    return model.save_pretrained(tmp_path_factory.mktemp('energies') / 'model')


@pytest.mark.parametrize('ending', ['sdf', 'jsonl', 'xyz'])
def test_a_property(file, tmp_path, capsys, ending):
    out = tmp_path / f'predicted.{ending}'
    assert main(['predict', str(file), f'--out={out}', '--batch-size=2']) == 0
    assert capsys.readouterr().out == f'wrote 5 molecules with homo (eV) to {out}\n'
    wanted = PropertyRegressor.from_pretrained('qm9-homo')(read_sdf(file))
    found = read_molecules(out)
    assert [data.title for data in found] == [f'number {i}' for i in range(5)]
    torch.testing.assert_close(torch.tensor([data.properties['predicted_homo'] for data in found]).double(), wanted,
                               atol=1e-4, rtol=0)


def test_energies_and_forces_are_those_of_the_calculator(energies, file, tmp_path):
    pytest.importorskip('ase')
    from ase.io import read

    from torch_geometric_inertial.calculators import InertialCalculator

    out = tmp_path / 'predicted.xyz'
    assert main(['predict', str(file), f'--model={energies}', '--energy-unit=kcal/mol', f'--out={out}']) == 0
    calculator = InertialCalculator.from_pretrained(energies, energy_unit='kcal/mol')
    for atoms in read(out, ':'):
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        found = calculator.predict([atoms])[0]
        assert energy == pytest.approx(found['energy'], abs=1e-4) and abs(forces - found['forces']).max() < 1e-4
    once, slowly = read_xyz(out), tmp_path / 'slowly.xyz'
    assert main(['predict', str(file), f'--model={energies}', '--energy-unit=eV', '--batch-size=1',
                 f'--out={slowly}']) == 0
    for a, b in zip(once, read_xyz(slowly), strict=True):
        assert float(a.energy / b.energy) == pytest.approx(0.0433641, rel=1e-4)


def test_several_scalars_are_numbered(file, tmp_path):
    torch.manual_seed(0)
    model = PaiNN(elements=(1, 6, 7, 8), channels=16, num_layers=1, cutoff=4.0, num_scalars=2, scalar_head='mean')
    folder = model.save_pretrained(tmp_path / 'model', target='level', unit='eV')
    assert main(['predict', str(file), f'--model={folder}', f'--out={tmp_path / "out.jsonl"}']) == 0
    wanted = model.eval().predict(read_sdf(file)).scalars
    for data, row in zip(read_molecules(tmp_path / 'out.jsonl'), wanted.tolist(), strict=True):
        assert [data.properties[f'predicted_level_{k}'] for k in range(2)] == pytest.approx(row, abs=1e-4)


def test_what_the_model_cannot_read_is_named_and_the_others_are_written(file, tmp_path, capsys):
    molecules = read_sdf(file)
    molecules[0].z[0] = 17
    molecules[1].formal_charge[0] = 1
    molecules[2].pos[1] = molecules[2].pos[0]
    write_sdf(molecules, file)
    assert main(['predict', str(file), f'--out={tmp_path / "out.sdf"}']) == 0
    error = capsys.readouterr().err
    assert '0 number 0: it has element 17, and the model knows [1, 6, 7, 8]' in error
    assert '1 number 1: it has the charge 1, and the model knows 0' in error and '2 number 2: ' in error
    assert [data.title for data in read_sdf(tmp_path / 'out.sdf')] == ['number 3', 'number 4']
    write_sdf(molecules[:1], file)
    assert main(['predict', str(file), f'--out={tmp_path / "none.sdf"}']) == 1
    assert 'none of the 1 molecules of ' in capsys.readouterr().err and not (tmp_path / 'none.sdf').exists()


def test_molecules_unlike_those_of_the_training_set(file, tmp_path, capsys):
    common = ['predict', str(file), '--model=ethanol', f'--out={tmp_path / "out.xyz"}']
    if any(7 in data.z for data in read_sdf(file)):
        write_sdf([data for data in read_sdf(file) if 7 not in data.z], file)
    assert main(common) == 0
    assert 'all training molecules were C2H6O: values may be anything' in capsys.readouterr().err
    assert main([*common, '--strict']) == 1
    assert 'all training molecules were C2H6O\n' in capsys.readouterr().err


@pytest.mark.parametrize('arguments, status, message', [
    (['{file}', '--model=n-body'], 2, "'model' must predict energies, forces or properties from elements and positions "
     "alone (got 'n-body', which reads velocities)"),
    (['{file}', '--model=qm9'], 2, "holds a model of class 'InertialAR' (asked for 'AtomPredictor')"),
    (['{file}', '--model=homo'], 2, "'name_or_folder' must be a bundled model ("),
    (['{file}', '--model=ethanol', '--out=x.sdf'], 2, "'out' must end in .xyz, since 'ethanol' predicts forces, and "
     "other files have no place for them (got 'x.sdf')"),
    (['{file}', '--model={energies}'], 2, 'must be one of eV, kcal/mol, kJ/mol, Hartree (got None)'),
    (['{file}', '--batch-size=0'], 2, "'batch_size' must be at least 1 (got 0)"),
    (['{file}', '--device=tpu0'], 2, "'device' must be one that is there, cpu"),
    (['{file}', '--out=x.pdf'], 1, "'x.pdf' must end in one of .sdf, .xyz, .jsonl"),
    (['{folder}/empty.sdf'], 1, 'the file is empty, or holds no molecule'),
    (['{folder}/folder.sdf'], 1, 'Is a directory'),
])
def test_mistakes(energies, file, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(file.parent)
    (file.parent / 'empty.sdf').touch()
    (file.parent / 'folder.sdf').mkdir()
    words = [word.format(file=file, folder=file.parent, energies=energies) for word in arguments]
    assert main(['predict', *words]) == status
    error = capsys.readouterr().err
    assert message in error and error.startswith('inertial predict: ') and error.count('\n') == 1
    assert not list(file.parent.glob('predicted*'))


def test_weights_that_do_not_say_what_they_predict(file, tmp_path, capsys):
    folder = PaiNN(channels=16, num_layers=1, cutoff=4.0).save_pretrained(tmp_path / 'model')
    assert main(['predict', str(file), f'--model={folder}']) == 2
    assert re.search("must state the 'target' and the 'unit' of what the model predicts, or give 'energy_unit' if that "
                     'is an energy', capsys.readouterr().err)


def test_a_missing_package_is_named(tmp_path):
    write_xyz([QM9Sample()[20]], tmp_path / 'one.xyz')
    code = "import sys; sys.modules['ase'] = None\n" \
        "from torch_geometric_inertial.cli.main import main; sys.exit(main(['predict', 'one.xyz', '--model=ethanol']))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith('inertial predict: ')
    assert 'pip install ase' in result.stderr and result.stderr.count('\n') == 1
