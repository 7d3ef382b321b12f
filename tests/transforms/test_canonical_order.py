import subprocess
import sys

import numpy as np
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


#: What the fields of `rich` hold that no list knows.
FIELDS = {'triple_index': 'index', 'triple_pos': 'graph'}


def canonical(order='smiles'):
    return Compose([InertialFrame(), CanonicalOrder(order, FIELDS)])


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
    out = CanonicalOrder(order, FIELDS)(data)
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
    """Methane pulled apart: its bonds are long, and where they have orders they are believed."""
    data = MOLECULES['CH4'].clone()
    data.pos = data.pos * 3
    data.edge_index, data.edge_attr = torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]]), torch.ones(4)
    assert CanonicalOrder()(data).z.tolist() == [1, 6, 1, 1, 1]
    del data.edge_attr
    with pytest.warns(UserWarning, match="'edge_index' holds no bonds: 4 of 4 edges of molecule 0 are too long"):
        assert CanonicalOrder()(data).z.tolist() == [6, 1, 1, 1, 1]


def test_without_a_frame_the_pose_is_kept_and_the_order_is_the_same():
    molecule = random_motion(MOLECULES['furan'], 5)
    out = CanonicalOrder()(molecule)
    assert torch.equal(out.perm, canonical()(molecule).perm)
    assert torch.equal(out.pos, molecule.pos[out.perm])


def test_a_second_time_changes_nothing():
    once = canonical()(rich(MOLECULES['furan']))
    twice = CanonicalOrder(fields=FIELDS)(once)
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


WATER = MOLECULES['H2O']
EDGES = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])


def water(size=3, **fields):
    """Water, or as much of it, in an order that is not canonical."""
    row = torch.tensor([1, 0, 2])[:size]
    place = row.argsort()
    edges = place[EDGES[:, (size > EDGES).all(0)]]
    return Data(z=WATER.z[row], pos=WATER.pos[row] + 0.01 * torch.arange(3), edge_index=edges, **fields)


def test_three_rows_of_water_are_no_atoms():
    """A vector, a cell, and as many targets as edges: a molecule of three atoms keeps them."""
    fields = {'dipole': torch.tensor([1.0, 2, 3]), 'cell': torch.diag(torch.tensor([4.0, 5, 6])),
              'pbc': torch.tensor([True, False, False]), 'y': torch.arange(4.0), 'energy': torch.arange(3.0)}
    single = water(**fields)
    batch = Batch.from_data_list([water(**fields), water(**fields)])
    for data in (single, *CanonicalOrder()(batch).to_data_list()):
        out = CanonicalOrder()(data)
        assert all(torch.equal(out[name], value) for name, value in fields.items())
    assert CanonicalOrder()(single).perm.tolist() != [0, 1, 2]


def test_a_field_that_nothing_tells_of_stays_with_a_warning_or_follows_when_declared():
    label = torch.tensor([10.0, 11, 12])
    for name, value, guess in [('shielding', label, 'node'), ('path_index', torch.tensor([0, 1, 2]), 'index'),
                               ('coupling', torch.arange(4.0), 'edge')]:
        data = water(**{name: value})
        with pytest.warns(UserWarning, match=f"'{name}' stays as it is, .*fields={{'{name}': '{guess}'}}"):
            assert torch.equal(CanonicalOrder()(data)[name], value)
        out = CanonicalOrder(fields={name: guess})(data)
        place = out.perm.argsort()
        row, col = place[data.edge_index]
        order = {'node': out.perm, 'index': slice(None), 'edge': (3 * row + col).argsort()}[guess]
        expected = place if guess == 'index' else value[order]
        assert torch.equal(out[name], expected) and not torch.equal(expected, value)


@pytest.mark.filterwarnings('error::UserWarning')
def test_a_declared_field_of_the_molecule_stays_without_a_word():
    data = water(shielding=torch.arange(3.0))
    assert torch.equal(CanonicalOrder(fields={'shielding': 'graph'})(data).shielding, data.shielding)


def test_a_batch_knows_the_fields_of_molecules_of_several_sizes():
    methane = MOLECULES['CH4']
    other = Data(z=methane.z, pos=methane.pos, edge_index=torch.tensor([[0, 0, 0, 0], [1, 2, 3, 4]]),
                 shielding=torch.arange(5.0))
    out = CanonicalOrder()(Batch.from_data_list([water(shielding=torch.arange(3.0)), other]))
    for part in out.to_data_list():
        assert torch.equal(part.shielding, part.perm.double().float())


def test_padding_stays_padding_and_numbers_follow_alone_and_in_a_batch():
    rings = torch.tensor([[0, 1, -1], [2, -1, -1]])
    single = CanonicalOrder()(water(ring_index=rings))
    place = single.perm.argsort()
    assert single.ring_index.tolist() == [[int(place[0]), int(place[1]), -1], [int(place[2]), -1, -1]]
    batch = Batch.from_data_list([Data(z=MOLECULES['CH4'].z, pos=MOLECULES['CH4'].pos, edge_index=EDGES,
                                       ring_index=torch.full((2, 3), -1)), water(ring_index=rings)])
    first, second = CanonicalOrder()(batch).to_data_list()
    assert (first.ring_index == -1).all() and torch.equal(second.ring_index, single.ring_index)


class WithTriples(Data):
    def __inc__(self, key, value, *args, **kwargs):
        return self.num_nodes if key == 'triples' else super().__inc__(key, value, *args, **kwargs)


def test_a_data_class_that_numbers_atoms_is_asked():
    a, b = (WithTriples(**water(triples=torch.tensor([[1, 0, 2]])).to_dict()) for _ in range(2))
    single = CanonicalOrder()(a)
    assert single.z[single.triples[0]].tolist() == a.z[a.triples[0]].tolist() and single.triples.tolist() != [[1, 0, 2]]
    for part in CanonicalOrder()(Batch.from_data_list([a, b])).to_data_list():
        assert torch.equal(part.triples, single.triples)


def test_names_of_atoms_follow_in_a_batch_and_in_numpy():
    out = CanonicalOrder()(Batch.from_data_list([water(symbols=['a', 'b', 'c']), water(symbols=['d', 'e', 'f'])]))
    for part, names in zip(out.to_data_list(), ('abc', 'def'), strict=True):
        assert part.symbols == [names[i] for i in part.perm.tolist()]
    out = CanonicalOrder()(water(charge=np.array([0.0, 1.0, 2.0])))
    assert out.charge.tolist() == out.perm.tolist()


@pytest.mark.parametrize('size, cutoff', [(30, None), (80, None), (30, 2.6)])
def test_edges_of_all_pairs_or_within_a_radius_give_way_to_distances(size, cutoff):
    g = torch.Generator().manual_seed(size)
    pos = 1.6 * torch.cartesian_prod(*[torch.arange(5.0)] * 3)[:size] + 0.05 * torch.randn(size, 3, generator=g)
    u, v = torch.combinations(torch.arange(size)).T
    near = (pos[u] - pos[v]).norm(dim=1) < (cutoff or 1e3)
    data = Data(z=torch.full((size,), 6), pos=pos)
    expected = CanonicalOrder('rank')(data)
    data.edge_index = torch.stack([u, v])[:, near]
    for edge_attr in (None, torch.ones(data.edge_index.size(1)), torch.zeros(data.edge_index.size(1), 4)):
        data.edge_attr = edge_attr
        with pytest.warns(UserWarning, match="'edge_index' holds no bonds"):
            out = CanonicalOrder('rank')(data)
        assert torch.equal(out.perm, expected.perm)
        assert torch.equal(out.perm[out.edge_index].sort(0).values.T.unique(dim=0), data.edge_index.T)


def test_of_a_batch_only_the_molecules_without_bonds_are_looked_at_anew():
    furan = rich(MOLECULES['furan'])
    pairs = torch.combinations(torch.arange(9)).T
    plain = [Data(z=furan.z, pos=furan.pos, edge_index=edges) for edges in (furan.edge_index, pairs)]
    with pytest.warns(UserWarning, match='of molecule 1 are too long, .* in 1 of 2 molecules'):
        out = CanonicalOrder()(Batch.from_data_list(plain))
    assert out.perm[:9].tolist() == out.perm[9:].tolist() == CanonicalOrder()(plain[0]).perm.tolist()


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


@pytest.mark.parametrize('fields, message', [
    ({'fields': {'a': 'atom'}}, r"'fields' must give each field one of 'node', .*\(got 'atom' for 'a'\)"),
])
def test_bad_levels_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        CanonicalOrder(**fields)


@pytest.mark.parametrize('name, value, level, message', [
    ('a', torch.zeros(2), 'node', r"'a' is declared to have one row per atom \(got 2 rows and 3 atoms\)"),
    ('a', torch.zeros(3), 'edge', r"'a' is declared to have one row per edge \(got 3 rows and 4 edges\)"),
    ('a', torch.zeros(3), 'index', r"'a' is declared to number atoms, .*whole numbers \(got torch.float32\)"),
    ('a', torch.tensor([0, 3]), 'index', r"'a' must number atoms of its molecule from 0, or be -1 .*\(got 3\)"),
    ('a', torch.tensor([0, -2]), 'index', r"'a' must number atoms .*\(got -2\)"),
    ('adj', torch.eye(3).to_sparse_csr(), 'graph', "'adj' holds the atoms in a sparse matrix"),
])
def test_fields_that_do_not_fit_are_named(name, value, level, message):
    with pytest.raises(ValueError, match=message):
        CanonicalOrder(fields={name: level})(water(**{name: value}))


def test_a_number_beyond_its_molecule_is_named_in_a_batch():
    batch = Batch.from_data_list([water(ring_index=torch.tensor([1])), water(ring_index=torch.tensor([4]))])
    with pytest.raises(ValueError, match=r"'ring_index' must number atoms of its molecule from 0, .*\(got 4\)"):
        CanonicalOrder()(batch)


def test_bad_order_is_named():
    with pytest.raises(ValueError, match=r"'order' must be one of 'smiles', 'heavy_first', 'rank' \(got 'random'\)"):
        CanonicalOrder('random')
