import pytest
from torch_geometric.data import Batch

from torch_geometric_inertial import CanonicalOrder, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample


@pytest.fixture(scope='session')
def qm9():
    """Real molecules in canonical frame and order."""
    batch = InertialFrame()(Batch.from_data_list(list(QM9Sample()[:1500])))
    molecules = [CanonicalOrder()(data) for data in batch.to_data_list()[:40]]
    return batch, molecules
