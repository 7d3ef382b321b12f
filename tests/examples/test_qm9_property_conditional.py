import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial import InertialAR, PaiNN
from torch_geometric_inertial.datasets import QM9Sample

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
def judge(tmp_path):
    """A regressor that says -6.5 eV of everything."""
    model = PaiNN(elements=(1, 6, 7, 8), channels=16, num_layers=1, scalar_head='mean')
    model.reference.fill_(-6.5)
    model.scale.fill_(0.0)
    return model.save_pretrained(tmp_path / 'judge', target='homo', unit='eV')


def generator(folder, properties):
    torch.manual_seed(0)
    model = InertialAR(elements=(1, 6, 7, 8), channels=32, heads=2, type_layers=1, coord_layers=1, head_channels=16,
                       head_layers=1, num_landmarks=16, widths=(2.0, ), environment_channels=8, valence_channels=4,
                       pair_channels=0, properties=properties, max_atoms=8)
    model.fit_properties(QM9Sample().homo.unsqueeze(1))
    return model.save_pretrained(folder)


def test_the_protocol_end_to_end(run, judge, tmp_path):
    pytest.importorskip('matplotlib')
    weights = generator(tmp_path / 'weights', ('homo', ))
    out = run('--judge', judge, '--weights', weights, '--scales', 0, 1, '--num-samples', 8, '--num-real', 100, '--out',
              tmp_path / 'out')
    rows = {row[:22].strip(): float(row[22:].split()[0]) for row in out.partition('valid %\n')[2].splitlines()[:5]}
    assert list(rows) == ['labels of others', 'size only', 'asked for, scale 0', 'asked for, scale 1',
                          'real test molecules']
    # the judge says -6.5 eV of real and of generated molecules alike
    assert rows['asked for, scale 0'] == rows['asked for, scale 1']
    assert rows['real test molecules'] == pytest.approx(rows['labels of others'], rel=0.05)
    assert 200 < rows['size only'] < 700  # meV
    results = json.loads((tmp_path / 'out' / 'property.json').read_text())
    assert results['target'] == 'homo' and results['scales']['1.0']['num_requested'] == 8
    assert (tmp_path / 'out' / 'wanted.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


def test_a_generator_that_does_not_know_the_property(run, judge):
    with pytest.raises(ValueError, match=r"'qm9' does not know the property 'homo' of the judge \(it knows none\)"):
        run('--judge', judge, '--weights', 'qm9')
