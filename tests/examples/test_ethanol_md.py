import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('ase')
pytest.importorskip('matplotlib')
from ase.io import read

from torch_geometric_inertial import GeoMFormer

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'ethanol_md.py'


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs the script and gives what it prints."""
    spec = importlib.util.spec_from_file_location('ethanol_md_example', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), '--out', str(tmp_path / 'out'), *map(str, arguments)])
        module.main()
        return capsys.readouterr().out
    return run


def weights(folder, seed):
    torch.manual_seed(seed)
    model = GeoMFormer(elements=(1, 6, 8), channels=16, heads=2, num_layers=1, num_kernels=8, softening=0.5,
                       vector_head='conservative')
    model.scale.fill_(20.0)  # so that random weights exert forces
    return model.save_pretrained(folder / str(seed), energy_unit='kcal/mol')


def test_it_relaxes_moves_and_measures_the_drift(run, tmp_path):
    models = [weights(tmp_path, seed) for seed in range(2)]
    said, out = run('--weights', *models, '--max-relax-steps', 5, '--steps', 60), tmp_path / 'out'
    assert float(re.search(r'steps: (-?[\d.]+) meV', said)[1]) < 0  # downhill
    rows = np.loadtxt(out / 'energy.csv', delimiter=',', skiprows=1)
    assert rows.shape == (61, 4) and rows[-1, 0] == 30.0
    total = rows[:, 1] + rows[:, 2]
    slope = np.polyfit(rows[:, 0] / 1000, total - total[0], 1)[0]
    assert float(re.search(r'drifts by (-?[\d.]+) meV', said)[1]) == pytest.approx(1000 * slope / 9, abs=1e-4)
    assert np.ptp(rows[:, 2]) > 1e-3 and np.ptp(total) < 0.05 * np.ptp(rows[:, 2])
    assert float(re.search(r'apart by up to ([\d.]+)', said)[1]) == pytest.approx(rows[:, 3].max(), abs=1e-4)
    frames = read(out / 'trajectory.traj', ':')
    assert len(frames) == 7 and frames[-1].get_total_energy() == pytest.approx(total[-1])
    script = EXAMPLE.parents[1] / 'benchmarks' / 'plot_energies.py'
    subprocess.run([sys.executable, str(script), str(out / 'energy.csv')], check=True)
    from matplotlib import image
    assert image.imread(out / 'energy.png')[..., :3].std() > 0.01  # lines on white


def test_without_weights(run, tmp_path):
    with pytest.raises(ValueError, match=r'got .*no/such/model'):
        run('--weights', tmp_path / 'no/such/model')
