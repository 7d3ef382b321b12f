import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.training import PackedMolecules


def molecules(sizes, groups=False):
    g = torch.Generator().manual_seed(0)
    out = [Data(z=torch.randint(1, 119, (n, ), generator=g), pos=torch.randn(n, 3, generator=g)) for n in sizes]
    for data in out if groups else []:
        data.groups = torch.randint(2, (1, 4), generator=g)
        data.properties = torch.randn(1, 3, generator=g, dtype=torch.float64)
    return out


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), groups=st.booleans(), data=st.data())
def test_a_batch_is_that_of_pyg(sizes, groups, data):
    items = molecules(sizes, groups)
    index = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=10))
    packed = PackedMolecules.from_dataset(items)
    ours, theirs = packed.batch(torch.tensor(index)), Batch.from_data_list([items[i] for i in index])
    assert len(packed) == len(items)
    for name in ('z', 'pos', 'ptr', *(['groups', 'properties'] if groups else [])):
        assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype


@pytest.mark.parametrize('z, pos, ptr, groups, message', [
    (4, (3, 3), [0, 4], None, r"expected 'z' \[T\], .* ending in T \(got \(4,\), \(3, 3\), \(2,\)\)"),
    (4, (4, 2), [0, 4], None, r"expected 'z' \[T\], 'pos' \[T, 3\]"),
    (4, (4, 3), [0, 3], None, r"expected 'z' \[T\], 'pos' \[T, 3\] and 'ptr' \[M \+ 1\] ending in T"),
    (4, (4, 3), [[0, 4]], None, r"expected 'z' \[T\]"),
    (4, (4, 3), [0, 2, 4], (3, 5), r"'groups' must have a row a molecule, 2 \(got \(3, 5\)\)"),
], ids=str)
def test_errors(z, pos, ptr, groups, message):
    with pytest.raises(ValueError, match=message):
        PackedMolecules(torch.ones(z).long(), torch.zeros(pos), torch.tensor(ptr),
                        None if groups is None else torch.zeros(groups))


@pytest.mark.parametrize('conditions, message', [
    (dict(properties=torch.zeros(3, 1)), r"'properties' must have a row a molecule, 2 \(got \(3, 1\)\)"),
    (dict(properties=torch.zeros(2)), r"'properties' must have a row a molecule, 2 \(got \(2,\)\)"),
    (dict(properties=torch.zeros(2, 1).long()), r"'properties' must be floating point \(got torch.int64\)"),
    (dict(properties=torch.tensor([[float('nan')], [float('inf')]])),
     r"'properties' must be finite, or NaN where not known \(got one infinite at molecule 1\)"),
    (dict(groups=torch.tensor([[0, 1], [2, 1]])), r"'groups' must be 0 or 1 \(got 2\)"),
], ids=range(5))
def test_errors_of_conditions(conditions, message):
    with pytest.raises(ValueError, match=message):
        PackedMolecules(torch.ones(4).long(), torch.zeros(4, 3), torch.tensor([0, 2, 4]), **conditions)


def test_a_value_may_be_unknown():
    packed = PackedMolecules(torch.ones(4).long(), torch.zeros(4, 3), torch.tensor([0, 2, 4]),
                             properties=torch.tensor([[float('nan'), 1.0], [2.0, 3.0]]))
    assert packed.batch(torch.tensor([1, 0])).properties[1].isnan().tolist() == [True, False]


def test_conditions_that_one_molecule_lacks():
    items = molecules([3, 2], groups=True)
    del items[1].properties
    with pytest.raises(ValueError, match=r"molecule 1 lacks 'properties', which others have \(got Data"):
        PackedMolecules.from_dataset(items)


def test_offsets_and_elements_that_are_not():
    pos = torch.zeros(4, 3)
    for ptr in ([1, 4], [0, 3, 2, 4]):
        with pytest.raises(ValueError, match=r"'ptr' must start at 0 and not descend \(got \["):
            PackedMolecules(torch.ones(4).long(), pos, torch.tensor(ptr))
    for z in (0, -1, 119, 257):  # 257 would be hydrogen in eight bits
        with pytest.raises(ValueError, match=r"'z' must be in 1 … 118 \(got "):
            PackedMolecules(torch.tensor([1, 6, z, 8]), pos, torch.tensor([0, 4]))


def test_nothing_to_pack():
    with pytest.raises(ValueError, match=r"'dataset' must hold at least one molecule \(got none\)"):
        PackedMolecules.from_dataset([])


@pytest.mark.parametrize('missing', ['z', 'pos'])
def test_a_molecule_that_lacks_something_is_named(missing):
    items = molecules([3, 2])
    del items[1][missing]
    with pytest.raises(ValueError, match=r"molecule 1 needs atomic numbers 'z' and positions 'pos' \(got Data"):
        PackedMolecules.from_dataset(items)


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), data=st.data())
def test_parts_and_single_molecules(sizes, data):
    items = molecules(sizes, groups=True)
    index = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=10))
    part = PackedMolecules.from_dataset(items).subset(torch.tensor(index))
    for name in ('groups', 'properties'):
        assert torch.equal(getattr(part, name), torch.cat([items[i][name] for i in index]))
    singles = part.to_data_list()
    assert len(part) == len(singles) == len(index)
    for i, single in zip(index, singles, strict=True):
        assert torch.equal(single.z, items[i].z) and torch.equal(single.pos, items[i].pos)
