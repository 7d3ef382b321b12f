import json

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial import PaiNN
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import PropertyRegressor, property_error
from torch_geometric_inertial.models import TrainingDomain


@pytest.fixture(scope='module')
def model():
    torch.manual_seed(0)
    return PaiNN(elements=(1, 6, 7, 8), channels=16, num_layers=1, cutoff=4.0, scalar_head='mean').eval()


def test_it_gives_what_the_model_says_of_each_molecule(model):
    molecules = list(QM9Sample()[:5])
    values = PropertyRegressor(model, batch_size=2)(molecules)
    alone = [float(model(data.z, data.pos)[0].detach()) for data in molecules]
    torch.testing.assert_close(values, torch.tensor(alone, dtype=torch.float64), atol=1e-5, rtol=0)
    assert PropertyRegressor(model)([]).shape == (0, )


def test_two_atoms_in_one_place_have_a_value(model):
    value = PropertyRegressor(model)([Data(z=torch.tensor([6, 1]), pos=torch.zeros(2, 3))])
    assert value.isfinite().all()


def test_it_is_the_regressor_of_the_protocol(model):
    sample = QM9Sample()[:40]
    labels, sizes = sample.homo, torch.tensor([data.z.numel() for data in sample])
    regressor, real = PropertyRegressor(model), list(sample)
    requested = regressor(real[:10])
    error = property_error(regressor, real[:10], requested, real, labels, sizes, labels)
    assert error.mae == 0 < error.regressor
    assert error.regressor == pytest.approx(float((regressor(real) - labels).abs().mean()))


def test_it_knows_what_it_predicts_from_the_file(model, tmp_path):
    model.save_pretrained(tmp_path / 'homo', target='homo', unit='eV')
    regressor = PropertyRegressor.from_pretrained(tmp_path / 'homo')
    assert (regressor.target, regressor.unit) == ('homo', 'eV')
    assert repr(regressor).startswith('PropertyRegressor(homo [eV], PaiNN(')
    config = tmp_path / 'homo' / 'config.json'
    config.write_text(json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != 'unit'}))
    with pytest.raises(ValueError, match=r"must state the 'target' and the 'unit' of what the model predicts \(got"):
        PropertyRegressor.from_pretrained(tmp_path / 'homo')


def test_molecules_unlike_those_of_the_training_are_named(model):
    domain = TrainingDomain((3, 5), (1, 6, 7, 8))
    methane, ethane = (Data(z=torch.tensor(z), pos=torch.randn(len(z), 3)) for z in ([6, 1, 1, 1, 1], [6, 6] + [1] * 6))
    values = PropertyRegressor(model)([methane, ethane])
    message = 'molecule 1 has 8 atoms; the training molecules had 3 to 5'
    with pytest.warns(UserWarning, match=f'1 of 2 molecules are unlike .* {message}'):
        assert torch.equal(PropertyRegressor(model, domain=domain)([methane, ethane]), values)
    with pytest.raises(ValueError, match=message):
        PropertyRegressor(model, domain=domain, strict=True)([methane, ethane])
    assert PropertyRegressor.from_pretrained('qm9-homo').domain.num_atoms == (3, 29)


def test_mistakes(model):
    with pytest.raises(ValueError, match=r"'model' must predict one scalar \(got 2, 'mean'\)"):
        PropertyRegressor(PaiNN(channels=16, scalar_head='mean', num_scalars=2))
    carbon = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    silicon = Data(z=torch.tensor([14]), pos=torch.zeros(1, 3))
    with pytest.raises(ValueError, match=r'molecule 1 must hold elements of \[1, 6, 7, 8\] \(got 14\)'):
        PropertyRegressor(model)([carbon, silicon])
