"""The predictors that come with the package: what they learned, and the numbers that they have always given."""
import shutil

import pytest
import torch

from torch_geometric_inertial import GeoMFormer
from torch_geometric_inertial.datasets import NBody, QM9Sample, RevisedMD17, n_body
from torch_geometric_inertial.metrics import PropertyRegressor
from torch_geometric_inertial.models import AtomPredictor

ETHANOL = torch.tensor([6, 6, 8, 1, 1, 1, 1, 1, 1])
ETHANOL_POS = torch.tensor([
    [1.19, -0.38, 0], [0, 0.57, 0], [-1.19, -0.22, 0], [-1.95, 0.38, 0], [2.14, 0.18, 0], [1.15, -1.03, 0.89],
    [1.15, -1.03, -0.89], [0.05, 1.22, 0.89], [0.05, 1.22, -0.89]], dtype=torch.float64)


def test_numbers_of_ethanol():
    energy, forces = GeoMFormer.from_pretrained('ethanol').double()(ETHANOL, ETHANOL_POS)
    assert float(energy.detach()) == pytest.approx(-97089.548333521, abs=1e-6)
    torch.testing.assert_close(forces[[0, 1, 5]], torch.tensor([
        [-6.721220684, 3.52732967, 0], [-5.242036091, -16.75598198, 0], [1.084160445, -2.224364221, 3.813844766]],
        dtype=torch.float64), atol=1e-6, rtol=0)


def test_numbers_of_qm9_homo():
    energy, _ = AtomPredictor.from_pretrained('qm9-homo').double()(ETHANOL, ETHANOL_POS)
    assert float(energy.detach()) == pytest.approx(-6.892189577643, abs=1e-6)


def test_numbers_of_n_body():
    pos = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1.5, 0], [0, 0, -2], [1, 1, 1]], dtype=torch.float64)
    vel = torch.tensor([[0.5, 0, 0], [0, 0.5, 0], [0, 0, -0.5], [0.3, 0.4, 0], [0, -0.3, 0.4]], dtype=torch.float64)
    _, found = GeoMFormer.from_pretrained('n-body').double()(torch.tensor([1, -1, 1, -1, 1]), pos, vel=vel)
    torch.testing.assert_close(found, torch.tensor([
        [0.88461162, 0.32857454, 0.03389806], [0.61281572, 0.07339661, -0.01478524],
        [0.03750877, 1.47689239, -0.51030343], [0.28165168, 0.39738261, -1.99183900],
        [1.08509622, 0.57920679, 1.28219441]], dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.filterwarnings('ignore:the simulated')
def test_charged_particles_go_where_the_law_takes_them(tmp_path, monkeypatch):
    for name, sizes in (('DRAWN', dict(train=40, val=40, test=40)), ('KEPT', dict(train=40, val=40, test=40))):
        monkeypatch.setattr(n_body, name, sizes)
    trajectories = list(NBody(str(tmp_path), 'val'))
    for data in trajectories:
        data.z = data.charge.long()
    found = GeoMFormer.from_pretrained('n-body').predict(trajectories).vectors
    pos, vel, y = (torch.cat([data[name] for data in trajectories]) for name in ('pos', 'vel', 'y'))
    near, far = ((x - y).square().view(40, -1).mean(1).median() for x in (found, pos + 0.73 * vel))
    assert near < 0.1 * far


def test_forces_of_ethanol_are_those_of_the_test_frames(shared_data, tmp_path):
    (tmp_path / 'raw').mkdir()
    shutil.copy(shared_data / 'rmd17' / 'rmd17_ethanol.npz', tmp_path / 'raw')
    frames = RevisedMD17(str(tmp_path), 'ethanol', train=False)[:100]
    forces = GeoMFormer.from_pretrained('ethanol').predict(frames).vectors
    assert (forces - torch.cat([data.force for data in frames])).abs().mean() < 0.4  # kcal/mol/Å; 0.3475 of all 1,000


def test_homo_energies_are_those_of_qm9():
    sample = QM9Sample()[::100]
    homo = torch.cat([data.homo.view(1) for data in sample])
    regressor = PropertyRegressor.from_pretrained('qm9-homo')
    assert (regressor(list(sample)) - homo).abs().mean() < 0.1  # eV; 0.06 of test molecules
