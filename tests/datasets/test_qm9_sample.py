from importlib.resources import files

import numpy as np
import pytest
import torch
from torch_geometric.loader import DataLoader

from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import stability


@pytest.fixture(scope='module')
def sample():
    return QM9Sample()


def test_it_is_small_and_large_enough(sample):
    assert len(sample) >= 5000
    stored = files('torch_geometric_inertial.datasets').joinpath('qm9_sample.npz').read_bytes()
    assert len(stored) <= 2_000_000


def test_items(sample):
    data = sample[17]
    n = data.num_nodes
    assert data.z.shape == (n,) and data.z.dtype == torch.long
    assert data.pos.shape == (n, 3) and data.pos.dtype == torch.float32
    assert data.idx.shape == (1,)
    assert data.is_undirected() and data.is_coalesced()
    assert data.edge_attr.shape == (data.num_edges,)
    length = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=1)
    assert length.min() > 0.9 and length.max() < 1.8
    torch.testing.assert_close(data.pos.mean(0), torch.zeros(3), atol=1e-4, rtol=0)


def test_the_molecules_are_real(sample):
    assert set(sample._data.z.unique().tolist()) == {1, 6, 7, 8}
    assert sample._data.idx.unique().numel() == len(sample)
    found = stability(sample[:2000])
    assert found.atom_share > 0.99 and found.molecule_share > 0.94


def test_charges_are_those_that_the_bonds_ask_for(sample):
    """The 50 zwitterions of the sample: four bonds of a nitrogen, or one of an oxygen or three of a carbon."""
    data = sample._data
    assert data.formal_charge.shape == data.z.shape and int((data.formal_charge != 0).sum()) == 100
    valence = {6: 4, 7: 3, 8: 2}
    for molecule in sample:
        assert int(molecule.formal_charge.sum()) == 0
        orders = torch.zeros(molecule.num_nodes).index_add(0, molecule.edge_index[0], molecule.edge_attr.float())
        for atom in molecule.formal_charge.nonzero().flatten().tolist():
            z, charge = int(molecule.z[atom]), int(molecule.formal_charge[atom])
            expected = valence[z] - abs(charge) if z == 6 or charge < 0 else valence[z] + charge
            assert int(orders[atom]) == expected


def test_it_loads_in_batches(sample):
    batch = next(iter(DataLoader(sample, batch_size=8)))
    assert batch.num_graphs == 8 and batch.ptr.numel() == 9


def test_transforms_and_filter():
    def small(data):
        return data.num_nodes <= 8

    def shift(data):
        data.pos = data.pos + 1
        return data

    plain = [data for data in QM9Sample() if small(data)]
    moved = QM9Sample(pre_transform=shift, pre_filter=small)
    twice = QM9Sample(pre_transform=shift, pre_filter=small, transform=shift)
    assert len(plain) == len(moved) == len(twice) > 1
    for a, b, c in zip(plain, moved, twice, strict=True):
        assert a.idx == b.idx == c.idx
        torch.testing.assert_close(b.pos, a.pos + 1)
        torch.testing.assert_close(c.pos, a.pos + 2)


def test_a_filter_that_keeps_nothing():
    with pytest.raises(ValueError, match="'pre_filter' must keep at least one molecule"):
        QM9Sample(pre_filter=lambda data: False)


def test_it_is_qm9_and_never_touches_the_test_set(sample, shared_data):
    with np.load(shared_data / 'qm9' / 'qm9_splits.npz') as splits:
        assert np.isin(sample._data.idx.numpy() + 1, splits['edm_train']).all()
    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as geom:
        data = sample[1234]
        row = int(np.flatnonzero(geom['gdb_id'] == int(data.idx) + 1)[0])
        atoms = slice(geom['ptr'][row], geom['ptr'][row + 1])
        assert geom['z'][atoms].tolist() == data.z.tolist()
        pos = torch.from_numpy(geom['pos_1e5'][atoms] * 1e-5)
        mine = data.pos.double()
        torch.testing.assert_close(torch.cdist(mine, mine), torch.cdist(pos, pos), atol=5e-4, rtol=0)
