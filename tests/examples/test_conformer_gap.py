import importlib.util
import json
import sys
from pathlib import Path

import pytest
from helpers.conformer_files import molecules, write_molecule3d, write_pcqm4mv2

pytest.importorskip('rdkit')
EXAMPLE = Path(__file__).parents[2] / 'examples' / 'conformer_gap.py'


@pytest.fixture
def module():
    spec = importlib.util.spec_from_file_location('conformer_gap_example', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(module, tmp_path, monkeypatch, capsys):
    """Runs the script and gives what it prints."""
    monkeypatch.setattr(module, 'SMALL', dict(channels=16, heads=2, num_layers=1, num_kernels=8))

    def run(*arguments):
        common = ('--num-conformers', 2, '--out', tmp_path / 'out')
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), *map(str, common), *map(str, arguments)])
        module.main()
        return capsys.readouterr().out.splitlines()
    return run


def table(lines):
    """Gap error and RMSD of each row."""
    first = next(i for i, line in enumerate(lines) if line.startswith('mean gap, RDKit geometry'))
    return [tuple(line.split()[-2:]) for line in lines[first:first + 3]]


def test_from_the_molecules_that_ship_to_a_table(run, tmp_path):
    lines = run('--limit', 80, '--heavy', '--fit', 'num_steps=40', 'max_minutes=None', 'evaluate_every=20', 'lr=5e-3')
    assert any('learns from 64 molecules of qm9' in line for line in lines)
    (mean_gap, conformer), (one_gap, relaxed), (_, again) = table(lines)
    assert float(one_gap) < 1.2 * float(mean_gap) and relaxed == again
    assert 0 < float(conformer) < 0.5 and 0 < float(relaxed) < 0.5
    log = [json.loads(line) for line in (tmp_path / 'out' / 'training' / 'log.jsonl').read_text().splitlines()]
    errors = [line for line in log if 'val_gap_mae' in line]
    assert len(errors) == 2 and all(line['val_conformer_rmsd'] > 0 for line in errors)
    facts = json.loads((tmp_path / 'out' / 'model' / 'config.json').read_text())
    assert facts['gap_unit'] == 'eV' and facts['training']['hydrogens'] is False
    assert table(run('--limit', 80, '--heavy', '--weights', tmp_path / 'out' / 'model')) == table(lines)


def test_official_files(run, tmp_path):
    write_pcqm4mv2(tmp_path, molecules(12), 9)
    lines = run('--data', 'pcqm4mv2', '--root', tmp_path, '--fit', 'num_steps=4', 'batch_size=4', 'evaluate_every=2')
    assert any('learns from 8 molecules of pcqm4mv2' in line for line in lines)
    assert [rmsd for _, rmsd in table(lines)] == ['-', '-', '-']  # no geometries of the validation set are published


def test_molecule3d_has_splits_of_its_own(run, tmp_path):
    write_molecule3d(tmp_path, molecules(12))
    lines = run('--data', 'molecule3d', '--root', tmp_path, '--fit', 'num_steps=2', 'batch_size=4')
    assert any('learns from 8 molecules of molecule3d' in line for line in lines)
    assert any('mean errors on 2 test molecules of molecule3d' in line for line in lines)
    assert all(float(rmsd) > 0 for _, rmsd in table(lines))
