import pytest
import torch
from torch_geometric.data import Batch

from torch_geometric_inertial import CanonicalOrder, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.testing import random_rotation
from torch_geometric_inertial.transforms import canonical


@pytest.mark.parametrize('order', ['smiles', 'heavy_first', 'rank'])
def test_the_molecule_alone_decides_and_a_batch_is_its_molecules(order):
    molecules = list(QM9Sample()[30:34])
    together = canonical(order)(Batch.from_data_list(molecules)).to_data_list()
    for data, from_batch in zip(molecules, together, strict=True):
        moved = data.clone()
        moved.pos = data.pos @ random_rotation(torch.Generator().manual_seed(1)).to(data.pos).T + 3.0
        for other in (canonical(order)(moved), CanonicalOrder(order=order)(InertialFrame()(data)), from_batch):
            torch.testing.assert_close(other.pos, canonical(order)(data).pos, atol=1e-4, rtol=0)
            assert other.z.tolist() == canonical(order)(data).z.tolist()


def test_an_order_that_is_none():
    with pytest.raises(ValueError, match=r"'order' must be one of .* \(got 'sorted'\)"):
        canonical('sorted')
