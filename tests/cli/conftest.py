import pytest
import torch

from torch_geometric_inertial import InertialAR, Quetzal


@pytest.fixture(scope='session')
def weights(tmp_path_factory):
    """A folder with a small untrained model that knows hydrogen and carbon."""
    torch.manual_seed(0)
    model = InertialAR(channels=32, heads=2, graph_layers=1, place_layers=1, head_channels=16, head_layers=1,
                       pair_channels=8, message_channels=8, message_rounds=1, field_channels=8, num_groups=2,
                       group_names=('alcohol', 'amine'), max_atoms=24)
    return model.save_pretrained(tmp_path_factory.mktemp('weights') / 'model')


@pytest.fixture(scope='session')
def heavy_first(tmp_path_factory):
    torch.manual_seed(0)
    model = Quetzal(elements=(1, 6, 7, 8), channels=32, heads=2, num_layers=2, coord_features=8, head_channels=16,
                    head_layers=1, head_features=8, max_atoms=24)
    return model.save_pretrained(tmp_path_factory.mktemp('weights') / 'model')


@pytest.fixture(scope='session')
def valued(tmp_path_factory):
    """A small untrained model that can be asked for a value."""
    torch.manual_seed(0)
    model = Quetzal(elements=(1, 6, 7, 8), channels=32, heads=2, num_layers=2, coord_features=8, head_channels=16,
                    head_layers=1, head_features=8, max_atoms=24, properties=('homo', ))
    model.fit_properties(torch.tensor([[-9.0], [-4.0]]))
    for parameter in model.parameters():  # a new head does not look at its condition
        torch.nn.init.normal_(parameter, std=0.2)
    return model.save_pretrained(tmp_path_factory.mktemp('weights') / 'model')
