import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data
from torch_geometric.datasets import QM9
from torch_geometric.transforms import Compose

pytest.importorskip('rdkit')

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.testing import assert_invariant, degenerate_molecules, random_motion
from torch_geometric_inertial.transforms import CanonicalOrder, InertialFrame

MOLECULES = degenerate_molecules()
ORDERS = ('smiles', 'heavy_first', 'rank')


def canonical(order='smiles'):
    return Compose([InertialFrame(), CanonicalOrder(order)])


def rich(molecule):
    """A molecule with fields of every kind, each of which names its atom or edge by position."""
    data = molecule.clone()
    bonds = distance_bonds(data.pos, data.z, torch.tensor([0, len(data.z)]))
    data.edge_index = torch.cat([bonds, bonds.flip(0)], 1)
    data.edge_attr = data.pos[data.edge_index].sum(0)
    data.x = data.pos.clone()
    data.symbols = [str(p.tolist()) for p in data.pos]
    data.triple_index = torch.tensor([[0, 1, 2]]).T
    data.triple_pos = data.pos[[0, 1, 2]][None]
    data.y = torch.tensor([[1.0, 2.0]])
    data.name = 'a molecule'
    return data


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('name', MOLECULES)
def test_token_sequence_depends_on_the_molecule_alone(name, order):
    assert_invariant(canonical(order), MOLECULES[name], trials=3)


@pytest.mark.parametrize('order', ORDERS)
@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10**6), name=st.sampled_from([n for n in MOLECULES if len(MOLECULES[n].z) > 2]),
       sigma=st.sampled_from([0.0, 1e-6, 1e-4, 1e-2]))
def test_nearly_symmetric_molecules_with_bonds(order, seed, name, sigma):
    data = rich(MOLECULES[name])
    noise = torch.randn(data.pos.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    data = Data(z=data.z, pos=data.pos + sigma * noise, edge_index=data.edge_index)
    assert_invariant(canonical(order), data, trials=2, seed=seed, atol=1e-6)


@pytest.mark.parametrize('order', ORDERS)
@pytest.mark.parametrize('name', ['furan', 'CHFClBr R', 'dimethyl ether'])
def test_every_field_follows_the_atoms(name, order):
    data = rich(MOLECULES[name])
    out = CanonicalOrder(order)(data)
    assert torch.equal(data.pos, MOLECULES[name].pos)  # the input is left alone
    assert torch.equal(out.pos, data.pos[out.perm]) and torch.equal(out.z, data.z[out.perm])
    assert torch.equal(out.x, out.pos)
    assert out.symbols == [str(p.tolist()) for p in out.pos]
    assert torch.equal(out.edge_attr, out.pos[out.edge_index].sum(0))
    edges = out.edge_index.T.tolist()
    assert edges == sorted(edges)
    assert torch.equal(out.pos[out.triple_index[:, 0]], data.triple_pos[0])
    assert torch.equal(out.y, data.y) and out.name == data.name and torch.equal(out.triple_pos, data.triple_pos)


def test_a_batch_is_its_molecules_and_comes_apart():
    molecules = [rich(MOLECULES[name]) for name in ('furan', 'CH4', 'H2O', 'cubane', 'CHFClBr S')]
    singles = [canonical()(m) for m in molecules]
    parts = canonical()(Batch.from_data_list(molecules)).to_data_list()
    for single, part in zip(singles, parts, strict=True):
        assert set(single.keys()) == set(part.keys())
        for key in ('z', 'pos', 'perm', 'edge_index', 'edge_attr', 'x', 'triple_index'):
            torch.testing.assert_close(part[key], single[key], atol=1e-9, rtol=0)


def test_bonds_of_the_data_come_before_distances():
    data = MOLECULES['CH4'].clone()
    data.pos = data.pos * 3  # far apart
    data.edge_index = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]])
    assert CanonicalOrder()(data).z.tolist() == [1, 6, 1, 1, 1]


def test_without_a_frame_the_pose_is_kept_and_the_order_is_the_same():
    molecule = random_motion(MOLECULES['furan'], 5)
    out = CanonicalOrder()(molecule)
    assert torch.equal(out.perm, canonical()(molecule).perm)
    assert torch.equal(out.pos, molecule.pos[out.perm])


def test_a_second_time_changes_nothing():
    once = canonical()(rich(MOLECULES['furan']))
    twice = CanonicalOrder()(once)
    assert torch.equal(twice.perm, torch.arange(9)) and torch.equal(twice.edge_index, once.edge_index)


def test_sample_of_qm9_is_invariant():
    """The law on 2,000 molecules; `benchmarks/check_invariance.py` holds all of them to it."""
    choice = torch.randperm(10_000, generator=torch.Generator().manual_seed(0))[:2000]
    molecules = [Data(z=data.z, pos=data.pos.double()) for data in QM9Sample()[choice]]
    a = canonical()(Batch.from_data_list(molecules))
    b = canonical()(Batch.from_data_list([random_motion(m, k) for k, m in enumerate(molecules)]))
    assert torch.equal(a.z, b.z)
    torch.testing.assert_close(a.pos, b.pos, atol=1e-3, rtol=0)


def test_works_as_pre_transform_of_qm9(shared_data, tmp_path):
    script = shared_data / 'qm9' / 'make_pyg_raw.py'
    subprocess.run([sys.executable, str(script), str(tmp_path), '--limit', '200'], check=True, capture_output=True)
    dataset = QM9(str(tmp_path), pre_transform=canonical())
    assert len(dataset) == 200
    for data in dataset:
        assert data.center.shape == (1, 3) and data.frame.shape == (1, 3, 3)
        assert sorted(data.perm.tolist()) == list(range(data.num_nodes))
        assert torch.equal(data.x[:, 5].long(), data.z)  # the column of PyG's features that holds Z
        late = set(data.edge_index.max(0).values.tolist())
        assert set(range(1, data.num_nodes)) <= late
        assert data.edge_attr.size(0) == data.num_edges and data.y.shape == (1, 19)
    methane = dataset[0]
    assert methane.z.tolist() == [1, 6, 1, 1, 1]


def test_repr():
    assert repr(CanonicalOrder('rank')) == "CanonicalOrder(order='rank')"


Z, POS = torch.tensor([1, 8]), torch.tensor([[0., 0, 0], [1, 0, 0]])


@pytest.mark.parametrize('data, message', [
    (Data(z=Z), r"'CanonicalOrder' needs atom positions in 'data.pos' \(got Data\(z=\[2\]\)\)"),
    (Data(pos=POS), r"'CanonicalOrder' needs atomic numbers in 'data.z'"),
    (Data(pos=POS[:0], z=Z[:0]), "'CanonicalOrder' needs at least one atom"),
    (Data(pos=POS, z=Z[:1]), r"'z' must hold one atomic number for each of the 2 positions"),
    (Data(pos=POS * float('nan'), z=Z), "'pos' must be finite"),
    (Data(pos=POS * 0.1, z=Z), r'must be at least 0.4 Å apart \(got 0.1 Å between atom 0, H, and atom 1, O\)'),
    (Data(pos=POS * 0.1, z=Z, edge_index=torch.tensor([[0, 1], [1, 0]])),
     r'must be at least 0.4 Å apart \(got 0.1 Å between atom 0, H, and atom 1, O\)'),
    (Data(pos=POS, z=torch.tensor([0, 8])), r"'z' must lie between 1 and 118 \(got 0 at atom 0\)"),
    (Data(pos=POS, z=Z, edge_index=torch.tensor([[0], [2]])), "'edge_index' must connect atoms of the same molecule"),
])
def test_bad_data_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        CanonicalOrder()(data)


def test_bad_order_is_named():
    with pytest.raises(ValueError, match=r"'order' must be one of 'smiles', 'heavy_first', 'rank' \(got 'random'\)"):
        CanonicalOrder('random')
