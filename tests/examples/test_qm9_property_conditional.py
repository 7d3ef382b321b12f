import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial import InertialAR, PaiNN

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'qm9_property_conditional.py'


@pytest.fixture
def run(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('qm9_property_conditional', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), *map(str, arguments)])
        module.main()
        return capsys.readouterr().out
    return run


@pytest.fixture
def regressor(tmp_path):
    """A regressor that says -6.5 eV of everything."""
    model = PaiNN(elements=(1, 6, 7, 8), channels=16, num_layers=1, scalar_head='mean')
    model.reference.fill_(-6.5)
    model.scale.fill_(0.0)
    return model.save_pretrained(tmp_path / 'regressor', target='homo', unit='eV')


def generator_without_properties(folder):
    torch.manual_seed(0)
    model = InertialAR(channels=32, heads=2, graph_layers=1, place_layers=1, head_channels=16, head_layers=1)
    return model.save_pretrained(folder)


def test_the_protocol_end_to_end(run, regressor, tmp_path):
    pytest.importorskip('matplotlib')
    out = run('--regressor', regressor, '--scales', 0, 1, '--num-samples', 8, '--num-real', 100, '--out',
              tmp_path / 'out')
    rows = {row[:22].strip(): float(row[22:].split()[0]) for row in out.partition('valid %\n')[2].splitlines()[:5]}
    assert list(rows) == ['labels of others', 'size only', 'asked for, scale 0', 'asked for, scale 1',
                          'real test molecules']
    assert rows['real test molecules'] == pytest.approx(rows['labels of others'], rel=0.05)
    assert 200 < rows['size only'] < 700  # meV
    results = json.loads((tmp_path / 'out' / 'property.json').read_text())
    assert results['target'] == 'homo' and results['scales']['1.0']['num_requested'] == 8
    for scale in (0, 1):
        error = results['scales'][f'{scale}.0']
        errors = [abs(x + 6.5) for x, y in zip(results['requested'], error['predicted'], strict=True) if y == -6.5]
        assert len(errors) == 8 - error['num_failed'] >= 6
        assert rows[f'asked for, scale {scale}'] == pytest.approx(1000 * sum(errors) / len(errors), abs=0.06)
    script = EXAMPLE.parents[1] / 'benchmarks' / 'plot_conditions.py'
    subprocess.run([sys.executable, str(script), str(tmp_path / 'out' / 'property.json')], check=True)
    assert (tmp_path / 'out' / 'property.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


def test_a_generator_that_does_not_know_the_property(run, regressor, tmp_path):
    weights = generator_without_properties(tmp_path / 'weights')
    with pytest.raises(ValueError, match=r"does not know the property 'homo' of '.*regressor' \(it knows none\)"):
        run('--regressor', regressor, '--weights', weights)
