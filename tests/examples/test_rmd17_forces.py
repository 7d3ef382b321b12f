import importlib.util
import json
import shutil
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'rmd17_forces.py'


@pytest.fixture
def run(shared_data, tmp_path, monkeypatch, capsys):
    """Runs the script on ethanol for a hundred steps and gives the table's last row."""
    (tmp_path / 'data' / 'raw').mkdir(parents=True)
    shutil.copy(shared_data / 'rmd17' / 'rmd17_ethanol.npz', tmp_path / 'data' / 'raw')
    spec = importlib.util.spec_from_file_location('rmd17_example', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), '--root', str(tmp_path / 'data'), *map(str, arguments)])
        module.main()
        return capsys.readouterr().out.splitlines()[-2:]
    return run


@pytest.mark.parametrize('model', ['geomformer', 'painn', 'torchmd_net'])
def test_from_frames_to_forces(run, model, tmp_path):
    out = tmp_path / 'out'
    constant, trained = run('--model', model, '--channels', 16, '--num-layers', 1, '--out', out, '--fit',
                            'num_steps=100', 'evaluate_every=50', 'lr=5e-3')
    energy, force = map(float, trained.split()[1:3])
    assert force < float(constant.split()[-3])  # a short training beats no forces at all
    assert 43.364 * energy == pytest.approx(float(trained.split()[3]), abs=0.01)
    log = [json.loads(line) for line in (out / 'training' / 'log.jsonl').read_text().splitlines()]
    facts = json.loads((out / 'model' / 'config.json').read_text())
    assert facts['energy_unit'] == 'kcal/mol'
    assert facts['validation']['val_force_mae'] <= min(line['val_force_mae'] for line in log if 'val_force_mae' in line)
    assert run('--weights', out / 'model')[-1] == trained
