import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial import FunctionalGroups, InertialAR

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'qm9_conditional.py'


def run(*arguments):
    return subprocess.run([sys.executable, str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=600)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A small untrained model that knows the groups."""
    torch.manual_seed(0)
    names = FunctionalGroups('qm9').names
    model = InertialAR(channels=32, heads=2, graph_layers=1, place_layers=1, head_channels=16, head_layers=1,
                       num_groups=len(names), group_names=names, max_atoms=12)
    return model.save_pretrained(tmp_path_factory.mktemp('weights'))


def test_groups_are_asked_for_and_judged(weights, tmp_path):
    done = run('--weights', weights, '--num-samples', 8, '--scales', 0, 2, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'guidance scale' in done.stdout and 'held-out molecules, asked for their own groups: 9' in done.stdout
    results = json.loads((tmp_path / 'guidance.json').read_text())
    assert list(results) == ['0.0', '2.0'] and results['2.0']['report']['num_requested'] == 8
    picture(tmp_path / 'guidance.json')


def picture(file):
    pytest.importorskip('matplotlib')
    script = EXAMPLE.parents[1] / 'benchmarks' / 'plot_conditions.py'
    subprocess.run([sys.executable, str(script), str(file)], check=True)
    assert file.with_suffix('.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'


@pytest.mark.slow
def test_the_bundled_weights_write_the_groups_that_they_are_asked_for(tmp_path):
    done = run('--num-samples', 50, '--scales', 0, 3, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / 'guidance.json').read_text())
    assert results['3.0']['hit_rate'] > 0.4 > results['0.0']['hit_rate']


def test_help():
    assert '--scales' in run('--help').stdout
