import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torch_geometric_inertial import FunctionalGroups, InertialAR

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'qm9_conditional.py'


def run(*arguments):
    return subprocess.run([sys.executable, str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=600)


@pytest.mark.slow
def test_groups_are_learnt_asked_for_and_judged(tmp_path):
    pytest.importorskip('matplotlib')
    done = run('--start', 'qm9', '--max-minutes', 0.1, '--num-samples', 8, '--scales', 0, 2, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'guidance scale' in done.stdout and 'held-out molecules, asked for their own groups: 9' in done.stdout
    assert (tmp_path / 'guidance.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'
    results = json.loads((tmp_path / 'guidance.json').read_text())
    assert list(results) == ['0.0', '2.0'] and results['2.0']['report']['num_requested'] == 8

    model = InertialAR.from_pretrained(tmp_path / 'model')
    assert model.config.group_names == FunctionalGroups.names
    assert len(model.generate(2, groups=['alcohol', 'ether'], guidance_scale=2.0, num_steps=4)) == 2
    done = run('--weights', tmp_path / 'model', '--num-samples', 4, '--scales', 1, '--out', tmp_path / 'again')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'again' / 'guidance.png').is_file() and not (tmp_path / 'again' / 'training').exists()


def test_help():
    assert '--scales' in run('--help').stdout
