import importlib.util
import json
import sys
from pathlib import Path

import pytest

from torch_geometric_inertial.metrics import PropertyRegressor

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'qm9_properties.py'


@pytest.fixture
def run(monkeypatch, capsys):
    """Runs the script and gives the figures of its table by name."""
    spec = importlib.util.spec_from_file_location('qm9_properties', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), *map(str, arguments)])
        module.main()
        head, *rows = capsys.readouterr().out.partition('mean absolute error of ')[2].splitlines()
        assert head.endswith('test molecules (meV)')
        return {row[:18].strip(): float(row[18:]) for row in rows}
    return run


def test_from_the_sample_to_a_judge(run, tmp_path):
    out = tmp_path / 'out'
    figures = run('--half', 'first', '--channels', 16, '--num-layers', 1, '--out', out, '--fit', 'num_steps=60',
                  'lr=1e-2', 'evaluate_every=30')
    assert list(figures) == ['mean of training', 'size only', 'formula only', 'PaiNN']
    assert 300 < figures['formula only'] < figures['mean of training'] < 600  # meV
    assert figures['PaiNN'] < figures['mean of training']  # after a short training
    facts = json.loads((out / 'model' / 'config.json').read_text())
    assert facts['training']['half'] == 'first' and facts['training']['molecules'] == 4500
    log = [json.loads(line) for line in (out / 'training' / 'log.jsonl').read_text().splitlines()]
    assert facts['validation']['val_mae'] <= min(line['val_mae'] for line in log if 'val_mae' in line)
    regressor = PropertyRegressor.from_pretrained(out / 'model')
    assert (regressor.target, regressor.unit) == ('homo', 'eV')
    assert run('--weights', out / 'model') == pytest.approx(figures, rel=0.1)  # baselines of all training molecules
    assert run('--weights', out / 'model')['PaiNN'] == figures['PaiNN']


def test_the_sample_lacks_other_targets(run):
    with pytest.raises(ValueError, match=r"'data' has no target 'u0' \(the embedded sample has 'homo' and 'gap' alone"):
        run('--target', 'u0')
