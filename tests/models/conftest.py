import pytest
import torch
from hypothesis import settings
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import AtomAutoregressor, CanonicalOrder, InertialAR, InertialFrame, Quetzal
from torch_geometric_inertial.datasets import QM9Sample

settings.register_profile('lean', max_examples=30, deadline=None)  # a loaded machine is no failure
settings.load_profile('lean')


@pytest.fixture(scope='session')
def qm9() -> list[Data]:
    """Real molecules in canonical frame and order."""
    batch = InertialFrame()(Batch.from_data_list(list(QM9Sample()[:24])))
    canonical = [CanonicalOrder()(data) for data in batch.to_data_list()]
    return [Data(z=data.z, pos=data.pos) for data in canonical]


@pytest.fixture(scope='session')
def make_model():
    """A factory of small models; :obj:`awake` ones have weights that all matter, as after training."""
    def make(seed: int = 0, awake: bool = True, kind: str = 'inertial_ar', **fields) -> AtomAutoregressor:
        small = dict(channels=32, heads=2, head_channels=24, head_layers=2, max_atoms=30)
        if kind == 'quetzal':
            small |= dict(num_layers=4, coord_features=8, head_features=8, bandwidth=0.5)
        else:
            small |= dict(type_layers=2, coord_layers=2, environment_channels=16, num_landmarks=24)
        if fields.get('coordinate_target') == 'absolute' and fields.get('fusion') == 'heads':
            small['environment_channels'] = 0
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = (Quetzal if kind == 'quetzal' else InertialAR)(**(small | fields))
            if awake:
                for name, p in model.named_parameters():
                    if p.dim() > 1 and (float(p.detach().std()) < 0.1 or 'network.field' in name):
                        # The flow of a wild head would blow the last digit of float32 up to ångströms.
                        torch.nn.init.normal_(p, std=0.02 if name.startswith('head.network') else 0.1)
        return model.eval()
    return make
