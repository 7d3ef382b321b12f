import os
import re
import subprocess
import sys
from pathlib import Path

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.chem import read_sdf

EXAMPLES = Path(__file__).parents[2] / 'examples'


def run(name, folder, *arguments):
    done = subprocess.run([sys.executable, str(EXAMPLES / name), *arguments], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, cwd=folder, timeout=600)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_generate(tmp_path):
    assert 'molecule stability' in run('01_generate.py', tmp_path)
    written = read_sdf(tmp_path / 'outputs' / '01_generate' / 'molecules.sdf')
    assert len(written) > 60 and all('edge_attr' in data for data in written)
    assert (tmp_path / 'outputs' / '01_generate' / 'molecules.png').stat().st_size > 1000


def test_train(tmp_path):
    assert '64 requested' in run('02_train.py', tmp_path, '0.03')
    assert InertialAR.from_pretrained(tmp_path / 'outputs' / '02_train' / 'model').writes_bonds


def test_every_example_is_short_and_has_few_options():
    for path in EXAMPLES.glob('[!_]*.py'):
        text = path.read_text()
        assert len(text.splitlines()) <= 100, path.name
        assert text.count('add_argument(') <= 10, path.name
        assert not re.search(r'^(from|import) .*\b_[a-z]', text, re.MULTILINE), path.name  # a private place
