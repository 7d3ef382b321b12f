import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import n_body
from torch_geometric_inertial.models import geomformer

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'n_body.py'


@pytest.fixture
def example(monkeypatch):
    """The script with 40 / 12 / 12 trajectories and a small model."""
    for name, sizes in (('DRAWN', dict(train=40, val=12, test=12)), ('KEPT', dict(train=40, val=12, test=12))):
        monkeypatch.setattr(n_body, name, sizes)
    small = GeoMFormerConfig.preset('n_body', channels=16, heads=2, num_layers=1, num_kernels=8)
    monkeypatch.setitem(geomformer.PRESETS, 'n_body', small)
    spec = importlib.util.spec_from_file_location('n_body_example', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), *map(str, arguments)])
        module.main()
    module.run = run
    return module


@pytest.mark.filterwarnings('ignore:the simulated')
def test_from_the_simulator_to_the_test_error(example, tmp_path, capsys):
    data, out = tmp_path / 'data', tmp_path / 'out'
    example.run('--root', data, '--out', out, '--fit', 'num_steps=12', 'batch_size=20', 'evaluate_every=5')
    trained = capsys.readouterr().out
    log = [json.loads(line) for line in (out / 'training' / 'log.jsonl').read_text().splitlines()]
    curve = [line['val_mse'] for line in log if 'val_mse' in line]
    best = json.loads((out / 'model' / 'config.json').read_text())['validation']['val_mse']
    assert curve and best <= min(curve)

    example.run('--root', data, '--weights', out / 'model')
    again = capsys.readouterr().out
    assert trained.splitlines()[-4:] == again.splitlines()[-4:]  # the table is that of the weights kept

    example.run('--root', data, '--start', out / 'model', '--time-steps', 3, '--out', tmp_path / 'finer',
                '--fit', 'num_steps=1', 'batch_size=20', 'lr=1e-12')
    finer = GeoMFormer.from_pretrained(tmp_path / 'finer' / 'model')
    model = GeoMFormer.from_pretrained(out / 'model')
    assert (finer.config.time_steps, model.config.time_steps) == (3, 8)
    for a, b in zip(finer.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=0)

    test = example.load(data, 'test')
    batch = test.batch()
    with torch.no_grad():
        mse = (model(batch.z, batch.pos, batch.batch, vel=batch.vel)[1] - batch.y).square().mean()
    assert f'{float(mse):.5f}' == again.splitlines()[-1].split()[1]


@pytest.mark.filterwarnings('ignore:the simulated')
def test_the_baseline_is_the_best_straight_motion(example, tmp_path):
    train = example.load(tmp_path, 'train')
    best = example.errors(example.linear_baseline(train, train), train)['mse']
    for time in (0.3, 0.6, 0.8, 1.0):
        there = train.atom_columns['pos'] + time * train.atom_columns['vel']
        assert best <= example.errors(there, train)['mse'] + 1e-9
