import os
import subprocess
import sys
from pathlib import Path

import pytest

from torch_geometric_inertial import InertialAR

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'qm9_ar.py'


def run(*arguments):
    return subprocess.run([sys.executable, str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=600)


@pytest.mark.slow
def test_from_molecules_to_molecules(tmp_path):
    done = run('--max-minutes', 0.05, '--num-samples', 4, '--out', tmp_path)
    assert done.returncode == 0, done.stderr
    assert 'generated' in done.stdout and 'training data' in done.stdout
    assert (tmp_path / 'molecules.sdf').is_file()
    assert (tmp_path / 'molecules.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'
    assert InertialAR.from_pretrained(tmp_path / 'model').generate(1, num_steps=2)[0].num_nodes >= 1

    done = run('--weights', tmp_path / 'model', '--num-samples', 2, '--out', tmp_path / 'again')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / 'again' / 'molecules.sdf').is_file() and not (tmp_path / 'again' / 'training').exists()


def test_help():
    assert '--weights' in run('--help').stdout
