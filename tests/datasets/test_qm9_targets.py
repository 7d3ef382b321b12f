import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import EXTENSIVE, QM9_TARGETS, QM9Sample, qm9_target


class OfQM9:
    """What PyG's QM9 is asked for: 19 columns that say which they are."""
    y = torch.arange(19).repeat(3, 1)


def test_columns_stand_where_pyg_has_them():
    # the table in the documentation of torch_geometric.datasets.QM9
    columns = dict(mu=0, alpha=1, homo=2, lumo=3, gap=4, r2=5, zpve=6, u0=7, cv=11, g298_atom=15, c=18)
    for name, column in columns.items():
        assert qm9_target(OfQM9(), name).tolist() == 3 * [column]
    assert len(QM9_TARGETS) == 19 and all(name in QM9_TARGETS for name in EXTENSIVE)


def test_unknown_target():
    with pytest.raises(ValueError, match=r"'name' must be one of mu, alpha, homo, .* \(got 'HOMO'\)"):
        qm9_target(OfQM9(), 'HOMO')


def test_of_the_sample_and_of_a_molecule():
    sample = QM9Sample()
    assert torch.equal(qm9_target(sample, 'homo'), sample.homo)
    assert qm9_target(sample[3], 'homo') == sample.homo[3]
    assert qm9_target(Data(y=OfQM9.y[:1]), 'gap').tolist() == [4]
    for data in (sample, sample[3]):
        with pytest.raises(ValueError, match=r"'data' has no target 'u0' \(the embedded sample has 'homo' and 'gap'"):
            qm9_target(data, 'u0')


def test_the_sample_carries_the_values_of_qm9(shared_data):
    sample = QM9Sample()
    with np.load(shared_data / 'qm9' / 'qm9_targets.npz') as file:
        columns = list(file['columns'])
        for name in ('homo', 'gap'):
            values = torch.from_numpy(file['T'][sample.idx.numpy(), columns.index(name)] * 27.211386246).float()
            torch.testing.assert_close(getattr(sample, name), values, atol=2e-6, rtol=0, equal_nan=True)


def test_values_of_the_sample_come_with_its_molecules():
    data = QM9Sample()[17]
    assert isinstance(data, Data) and data.homo.shape == data.gap.shape == (1, )
    sample = QM9Sample()
    assert sample.homo.isfinite().all() and -12 < sample.homo.min() < sample.homo.max() < -2
    assert sample.gap.isfinite().sum() > 3000 and sample.gap.isnan().sum() > 6000
    assert torch.equal(sample[[17]].homo, data.homo)
