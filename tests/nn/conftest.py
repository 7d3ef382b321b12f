import pytest
from hypothesis import settings
from torch_geometric.data import Batch

from torch_geometric_inertial import CanonicalOrder, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample

settings.register_profile('lean', max_examples=30, deadline=None)  # a loaded machine is no failure
settings.load_profile('lean')


@pytest.fixture(scope='session')
def qm9():
    """Real molecules in canonical frame and order."""
    batch = InertialFrame()(Batch.from_data_list(list(QM9Sample()[:1500])))
    molecules = [CanonicalOrder()(data) for data in batch.to_data_list()[:40]]
    return batch, molecules
