import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.chem import read_sdf, write_xyz
from torch_geometric_inertial.datasets import QM9Sample

pytest.importorskip('rdkit')
EXAMPLES = Path(__file__).parents[2] / 'examples'


def run(name, folder, *arguments):
    return subprocess.run([sys.executable, str(EXAMPLES / name), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, cwd=folder, timeout=600)


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """Random ones."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp('weights')
    InertialAR(InertialARConfig.preset('tiny')).save_pretrained(folder)
    return folder


@pytest.fixture
def heavy(tmp_path):
    """A file of three molecules without hydrogens, the second of which is broken."""
    path = tmp_path / 'heavy.xyz'
    write_xyz([data.subgraph(data.z > 1) for data in QM9Sample()[20:23]], path)
    lines = path.read_text().splitlines()
    second = int(lines[0]) + 2
    lines[second + 2] = 'C nonsense 0.0 0.0'
    path.write_text('\n'.join(lines) + '\n')
    return path


def test_hydrogens_of_a_file(weights, heavy, tmp_path):
    done = run('hydrogens.py', tmp_path, '--weights', weights, heavy)
    assert done.returncode == 0, done.stderr
    assert 'wrote' in done.stdout and 'heavy.xyz' in done.stderr and 'nonsense' in done.stderr
    for molecule, data in zip(read_sdf(tmp_path / 'outputs' / 'hydrogens.sdf'),
                              [QM9Sample()[20], QM9Sample()[22]], strict=True):
        assert molecule.z[molecule.z > 1].tolist() == data.z[data.z > 1].tolist()


def test_hydrogens_of_real_molecules(weights, tmp_path):
    done = run('hydrogens.py', tmp_path, '--weights', weights, '--num-molecules', 4)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('right count') >= 2 and 'RDKit' in done.stdout


def test_around_rings_and_around_a_file(tmp_path, heavy):
    done = run('scaffold.py', tmp_path, '--num-samples', 2)
    assert done.returncode == 0, done.stderr
    assert 'benzene: containing 1.000' in done.stdout and 'thiophene: left out' in done.stdout
    assert (tmp_path / 'outputs' / 'scaffold' / 'benzene.png').stat().st_size > 1000
    done = run('scaffold.py', tmp_path, '--num-samples', 2, '--scaffold', heavy)
    assert done.returncode == 0, done.stderr
    assert 'containing 1.000' in done.stdout


@pytest.mark.parametrize('name, text, message', [
    ('empty.sdf', '', 'empty.sdf: the file is empty'), ('core.mol2', 'x', 'must end in one of .sdf'),
])
@pytest.mark.parametrize('example, option', [('scaffold.py', '--scaffold'), ('hydrogens.py', None)])
def test_bad_files(weights, tmp_path, example, option, name, text, message):
    (tmp_path / name).write_text(text)
    done = run(example, tmp_path, '--weights', weights, *([option] if option else []), name)
    assert done.returncode != 0 and message in done.stderr
