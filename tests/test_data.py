import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data, HeteroData
from torch_geometric.loader import DataLoader

from torch_geometric_inertial.data import molecules_of, ptr_of, set_graph_level, set_node_level
from torch_geometric_inertial.metrics import evaluate, hit_rate
from torch_geometric_inertial.models.tokenization import tokenize


def chain(size, seed=0):
    """A chain of atoms with a field of each kind."""
    g = torch.Generator().manual_seed(100 * seed + size)
    forward = torch.stack([torch.arange(size - 1), torch.arange(1, size)])
    return Data(z=torch.randint(1, 10, (size,), generator=g), pos=torch.randn(size, 3, generator=g),
                edge_index=torch.cat([forward, forward.flip(0)], 1), edge_attr=torch.rand(2 * size - 2, generator=g),
                force=torch.randn(size, 3, generator=g), y=torch.rand(1, 2, generator=g),
                ring_index=torch.tensor([[0, size - 1], [-1, -1]]), name=f'chain of {size}')


def packed(batch, *, keep):
    """The same molecules without what PyG noted of them."""
    fields = {name: batch[name] for name in ('z', 'pos', 'edge_index', 'edge_attr', 'force', 'y')}
    return Data(**fields, **{name: batch[name] for name in keep})


sizes = st.lists(st.integers(2, 7), min_size=1, max_size=5)


@settings(max_examples=30, deadline=None)
@given(sizes=sizes, keep=st.sampled_from([('ptr',), ('batch',), ('ptr', 'batch')]))
def test_the_molecules_are_found_whatever_the_object(sizes, keep):
    singles = [chain(size, k) for k, size in enumerate(sizes)]
    batch = Batch.from_data_list(singles)
    expected = torch.tensor([0, *sizes]).cumsum(0)
    for data in (batch, packed(batch, keep=keep)):
        assert torch.equal(ptr_of(data), expected)
        parts = molecules_of(data)
        assert len(parts) == len(singles)
        for part, single in zip(parts, singles, strict=True):
            for name in ('z', 'pos', 'edge_index', 'edge_attr', 'force', 'y'):
                assert torch.equal(part[name], single[name]), name
            if data is batch:
                assert torch.equal(part.ring_index, single.ring_index) and part.name == single.name
            assert 'batch' not in part and 'ptr' not in part


def test_one_molecule_is_one():
    single = chain(4)
    assert ptr_of(single).tolist() == [0, 4] and molecules_of(single)[0].name == 'chain of 4'
    single.batch = torch.zeros(4, dtype=torch.long)
    (part,) = molecules_of(single)
    assert torch.equal(part.ring_index, single.ring_index) and 'batch' not in part and 'batch' in single


def test_a_batch_whose_notes_are_lost_or_old():
    batch = Batch.from_data_list([chain(3), chain(5)])
    del batch.ptr
    assert ptr_of(batch).tolist() == [0, 3, 8]
    forward = torch.tensor([[7, 0, 3], [6, 1, 4]])  # new edges, in no order, and fields that PyG did not note
    batch.edge_index, batch.edge_attr, batch.mass = forward, torch.tensor([7.0, 0.0, 3.0]), torch.arange(8.0)
    first, second = molecules_of(batch)
    assert first.edge_index.tolist() == [[0], [1]] and first.edge_attr.tolist() == [0.0]
    assert second.edge_index.tolist() == [[4, 0], [3, 1]] and second.edge_attr.tolist() == [7.0, 3.0]
    assert second.mass.tolist() == [3.0, 4.0, 5.0, 6.0, 7.0] and second.name == 'chain of 5'
    assert torch.equal(batch.edge_index, forward)


def test_atoms_taken_out_of_a_batch():
    """A batch without its hydrogens: PyG's notes are of the atoms before."""
    batch = Batch.from_data_list([Data(z=torch.tensor([1, 8, 1]), pos=torch.zeros(3, 3)),
                                  Data(z=torch.tensor([6, 1]), pos=torch.ones(2, 3))])
    heavy = batch.z > 1
    batch.z, batch.pos, batch.batch = batch.z[heavy], batch.pos[heavy], batch.batch[heavy]
    with pytest.raises(ValueError, match=r"'ptr' must ascend from 0 to the number of atoms, 2 \(got \[0, 3, 5\]\)"):
        ptr_of(batch)
    del batch.ptr
    assert [part.z.tolist() for part in molecules_of(batch)] == [[8], [6]]


def test_a_loader_and_empty_molecules():
    batch = next(iter(DataLoader([chain(2), chain(4)], batch_size=2, follow_batch=['force'])))
    assert ptr_of(batch).tolist() == [0, 2, 6] and len(molecules_of(batch)) == 2
    empty = Data(z=torch.empty(0, dtype=torch.long), pos=torch.empty(0, 3))
    batch = Batch.from_data_list([empty, Data(z=torch.tensor([1]), pos=torch.zeros(1, 3)), empty])
    assert ptr_of(batch).tolist() == [0, 0, 1, 1]
    del batch.ptr
    assert ptr_of(batch).tolist() == [0, 0, 1, 1]  # the batch knows how many there are
    assert molecules_of(Data(z=empty.z, pos=empty.pos, ptr=torch.tensor([0]))) == []


def test_fields_that_are_set_come_apart():
    batch = Batch.from_data_list([chain(2), chain(3)])
    set_graph_level(batch, 'energy', torch.tensor([1.0, 2.0]))
    set_node_level(batch, 'label', torch.arange(5))
    first, second = batch.to_data_list()
    assert first.energy.tolist() == [1.0] and second.label.tolist() == [2, 3, 4]


def test_metrics_see_the_molecules_of_a_packed_object():
    pytest.importorskip('rdkit')
    water = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
    two = Batch.from_data_list([water, water])
    packed = Data(z=two.z, pos=two.pos, batch=two.batch)
    report = evaluate(packed)
    assert report == evaluate([water, water]) and report.num_requested == 2
    assert evaluate(water).num_requested == 1
    assert hit_rate(packed, torch.eye(20)[:2]).report == report


def test_the_generators_see_the_molecules_of_a_packed_object():
    batch = Batch.from_data_list([chain(2), chain(4)])
    vocabulary = torch.arange(119)
    for keep in (('ptr',), ('batch',)):
        assert tokenize(packed(batch, keep=keep), vocabulary, 9)[2].tolist() == [0, 2, 6]
    with pytest.raises(ValueError, match="'batch' must ascend from 0"):
        tokenize(Data(z=batch.z, pos=batch.pos, batch=batch.batch.flip(0)), vocabulary, 9)


Z, POS = torch.tensor([8, 1, 1]), torch.zeros(3, 3)


@pytest.mark.parametrize('data, message', [
    ([Z], r"molecules are 'Data' or 'Batch' of PyG \(got list\)"),
    (HeteroData(), "molecules are 'Data' or 'Batch' of PyG"),
    (Data(x=POS), r"molecules need 'pos' or 'z' \(got Data\(x=\[3, 3\]\)\)"),
    (Batch(z=Z, pos=POS), "a 'Batch' needs 'ptr' or 'batch' to tell its molecules apart"),
    (Data(z=Z, pos=POS, ptr=[0, 3]), r"'ptr' must be a tensor of whole numbers \[B \+ 1\] \(got list\)"),
    (Data(z=Z, pos=POS, ptr=torch.tensor([0.0, 3.0])), "'ptr' must be a tensor of whole numbers .*float32"),
    (Data(z=Z, pos=POS, ptr=torch.tensor([0, 2])), r"'ptr' must ascend from 0 to the number of atoms, 3 \(got \[0, 2"),
    (Data(z=Z, pos=POS, ptr=torch.tensor([1, 3])), "'ptr' must ascend from 0"),
    (Data(z=Z, pos=POS, ptr=torch.tensor([0, 5, 2, 3])), r"'ptr' must ascend .*\(got \[0, 5, 2, 3\]\)"),
    (Data(z=Z, pos=POS, batch=torch.zeros(2).long()), r"'batch' must hold the molecule of each of the 3 atoms"),
    (Data(z=Z, pos=POS, batch=torch.zeros(3)), r"'batch' must hold .* as a whole number \(got torch.float32"),
    (Data(z=Z, pos=POS, batch=torch.tensor([0, 1, 0])), r"'batch' must ascend from 0: .*\(got \[1, 0\] at atom 1\)"),
    (Data(z=Z, pos=POS, batch=torch.tensor([-1, 0, 0])), r"'batch' must ascend from 0: .*\(got \[-1, 0\] at atom 0\)"),
    (Data(z=Z, pos=POS, batch=torch.tensor([0, 1, 1]), ptr=torch.tensor([0, 2, 3])),
     r"'batch' and 'ptr' must tell of the same molecules \(got 'ptr' \[0, 2, 3\] and 'batch' \[1, 2\] atoms each\)"),
    (Batch.from_data_list([Batch.from_data_list([chain(2)] * 3), Batch.from_data_list([chain(2)] * 2)]),
     "a 'Batch' of batches does not tell its molecules apart"),
])
def test_what_it_cannot_know_is_an_error(data, message):
    with pytest.raises(ValueError, match=message):
        ptr_of(data)


@pytest.mark.parametrize('edges, message', [
    (torch.tensor([[0], [6]]), r"'edge_index' must connect atoms .*, with indices below 5 \(got 0 to 6\)"),
    (torch.tensor([[-1], [0]]), "'edge_index' must connect atoms of the same molecule"),
    (torch.tensor([[0, 1], [1, 4]]), r"\(got an edge between atoms \[1, 4\] of molecules \[0, 1\]\)"),
    (torch.tensor([0, 1]), r"'edge_index' must be a tensor of whole numbers \[2, E\] \(got torch.int64 of shape \[2\]"),
])
def test_edges_must_stay_in_their_molecule(edges, message):
    batch = copy.copy(Batch.from_data_list([chain(2), chain(3)]))
    batch.edge_index, batch.edge_attr = edges, None
    with pytest.raises(ValueError, match=message):
        molecules_of(batch)
