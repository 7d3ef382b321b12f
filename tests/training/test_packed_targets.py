import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.training import PackedTargets

ATOMS, MOLECULES = ['z', 'pos', 'force'], ['energy']


def molecules(sizes):
    g = torch.Generator().manual_seed(0)
    return [Data(z=torch.randint(-1, 9, (n, ), generator=g), pos=torch.randn(n, 3, generator=g),
                 force=torch.randn(n, 3, generator=g), energy=torch.randn(1, generator=g, dtype=torch.float64))
            for n in sizes]


@given(sizes=st.lists(st.integers(1, 6), min_size=1, max_size=8), data=st.data())
def test_a_batch_is_that_of_pyg(sizes, data):
    items = molecules(sizes)
    index = data.draw(st.lists(st.integers(0, len(items) - 1), min_size=1, max_size=10))
    packed = PackedTargets.from_dataset(items, ATOMS, MOLECULES)
    theirs = Batch.from_data_list([items[i] for i in index])
    for ours in (packed.batch(torch.tensor(index)), packed.subset(torch.tensor(index)).batch()):
        for name in (*ATOMS, *MOLECULES, 'ptr', 'batch'):
            assert torch.equal(ours[name], theirs[name]) and ours[name].dtype == theirs[name].dtype
    assert len(packed) == len(items) and f'{len(items)} molecules' in repr(packed)


@pytest.mark.parametrize('ptr, change, message', [
    ([1, 4], {}, r"'ptr' must start at 0 and not descend \(got \[1, 4\]"),
    ([0, 3, 2, 4], {}, r"'ptr' must start at 0 and not descend"),
    ([0, 3], {}, r"'z' must have a row an atom, 3 \(got \(4,\)\)"),
    ([0, 2, 4], dict(pos=torch.zeros(3, 3)), r"'pos' must have a row an atom, 4 \(got \(3, 3\)\)"),
    ([0, 2, 4], dict(pos=torch.full((4, 3), torch.nan)), r"'pos' must be finite \(got nan\)"),
    ([0, 2, 4], dict(pos=None), r"'atom_columns' must hold 'z' and 'pos' \(got \['z'\]\)"),
    ([0, 1, 2, 4], {}, r"'energy' must have a row a molecule, 3 \(got \(2,\)\)"),
], ids=range(7))
def test_errors(ptr, change, message):
    atoms = {k: v for k, v in (dict(z=torch.ones(4).long(), pos=torch.zeros(4, 3)) | change).items() if v is not None}
    with pytest.raises(ValueError, match=message):
        PackedTargets(torch.tensor(ptr), atoms, dict(energy=torch.zeros(2)))


@pytest.mark.parametrize('change, message', [
    (dict(force=None), r"item 1 lacks 'force' \(got Data"),
    (dict(force=torch.zeros(1, 3)), r"'force' of item 1 must have 2 rows \(got \(1, 3\)\)"),
    (dict(energy=torch.zeros(())), r"'energy' of item 1 must have 1 rows \(got \(\)\)"),
], ids=range(3))
def test_an_item_that_does_not_fit_is_named(change, message):
    items = molecules([3, 2])
    for name, value in change.items():
        items[1][name] = value
    with pytest.raises(ValueError, match=message):
        PackedTargets.from_dataset(items, ATOMS, MOLECULES)


def test_nothing_to_pack():
    with pytest.raises(ValueError, match=r"'dataset' must hold at least one item \(got none\)"):
        PackedTargets.from_dataset([], ATOMS)
