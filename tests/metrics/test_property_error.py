import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from torch_geometric_inertial.chem import table_bonds
from torch_geometric_inertial.datasets import qm9_split
from torch_geometric_inertial.metrics import halves, property_error
from torch_geometric_inertial.metrics.property_error import random_label_mae, size_only_mae

HARTREE = 27_211.386  # meV


def molecule(n):
    return Data(z=torch.full((n, ), 6), pos=torch.arange(3.0 * n).view(n, 3))


def mass(molecules):
    return torch.tensor([float(data.z.sum()) for data in molecules])


@given(st.integers(2, 60), st.integers(0, 5))
def test_halves_are_a_partition(num, seed):
    a, b = halves(num, seed)
    assert torch.equal(torch.cat([a, b]).sort().values, torch.arange(num))
    assert 0 <= b.numel() - a.numel() <= 1
    assert all(torch.equal(x, y) for x, y in zip(halves(num, seed), (a, b), strict=True))


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=12))
def test_random_labels_are_the_mean_over_all_other_labels(pairs):
    predicted, labels = torch.tensor(pairs).double().T
    others = [abs(predicted[i] - labels[j]) for i in range(len(pairs)) for j in range(len(pairs)) if i != j]
    assert random_label_mae(predicted, labels) == pytest.approx(float(sum(others) / len(others)), abs=1e-9)


def test_size_alone_guesses_the_median_of_its_size():
    train_sizes, train_labels = torch.tensor([3, 3, 3, 5]), torch.tensor([1.0, 2.0, 30.0, 8.0])
    sizes, labels = torch.tensor([3, 5, 7]), torch.tensor([4.0, 8.0, 0.0])
    assert size_only_mae(train_sizes, train_labels, sizes, labels) == pytest.approx((2 + 0 + 5) / 3)  # 5: of all


def test_what_the_errors_are():
    real = [molecule(n) for n in (1, 2, 3)]
    generated = [molecule(2), None, molecule(4), Data(z=torch.tensor([6]), pos=torch.full((1, 3), torch.nan)),
                 Data(z=torch.tensor([6, 6]), pos=torch.tensor([[0.0, 0.0, 0.0], [0.1, 0.0, 0.0]]))]
    requested, labels = torch.tensor([13.0, 0.0, 20.0, 0.0, 99.0]), torch.tensor([6.0, 12.0, 20.0])
    result = property_error(mass, generated, requested, real, labels, torch.tensor([1, 2, 3]), labels - labels % 6)
    assert (result.mae, result.num_failed, result.num_requested) == (pytest.approx(2.5), 3, 5)
    assert result.predicted == (mass([generated[0]]).item(), None, mass([generated[2]]).item(), None, None)
    assert result.regressor == pytest.approx(2 / 3) and result.size_only == pytest.approx(2 / 3)
    assert result.random == pytest.approx((6 + 14 + 6 + 8 + 12 + 6) / 6)
    assert 'failed: 3 of 5' in str(result)


@pytest.fixture(scope='module')
def qm9(shared_data):
    """Real molecules of the EDM training split: sizes, HOMO (meV), and the first few thousand as Data."""
    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as file:
        arrays = {name: torch.from_numpy(file[name].astype(np.int64)) for name in ('z', 'pos_1e5', 'ptr', 'gdb_id')}
    with np.load(shared_data / 'qm9' / 'qm9_targets.npz') as file:
        homo = torch.from_numpy(file['T'][:, list(file['columns']).index('homo')]) * HARTREE
    sizes, labels = arrays['ptr'].diff(), homo[arrays['gdb_id'] - 1]
    parts = {name: qm9_split(arrays['gdb_id'], name) for name in ('train', 'test')}
    pos = arrays['pos_1e5'] * 1e-5

    def take(split, num):
        index = parts[split].nonzero().flatten()
        index = index[torch.randperm(index.numel(), generator=torch.Generator().manual_seed(0))[:num]]
        first, last = arrays['ptr'][index].tolist(), arrays['ptr'][index + 1].tolist()
        data = [Data(z=arrays['z'][a:b], pos=pos[a:b]) for a, b in zip(first, last, strict=True)]
        return data, labels[index]
    return sizes, labels, parts, take


def test_the_bounds_on_all_of_qm9_are_the_published_ones(qm9):
    """EDM, table 2, with fluorine: HOMO 645 meV with random labels, 426 meV by the number of atoms, which a network
    guesses there; the median cannot be worse."""
    sizes, labels, parts, _ = qm9
    test = parts['test']
    assert random_label_mae(labels[test], labels[test]) == pytest.approx(645, rel=0.02)
    assert size_only_mae(sizes[parts['train']], labels[parts['train']], sizes[test], labels[test]) == pytest.approx(
        426, rel=0.04)


def bond_counts(molecules):
    """Atoms and bonds of each kind: [B, F]."""
    z = torch.cat([data.z for data in molecules])
    sizes = torch.tensor([data.z.numel() for data in molecules])
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
    bonds = table_bonds(z, torch.cat([data.pos for data in molecules]), ptr)
    row = torch.repeat_interleave(sizes)
    code = torch.tensor([1, 0, 0, 0, 0, 0, 1, 2, 3])[z.clamp(max=8)] + (z == 1) * -1  # H 0, C 1, N 2, O 3
    a, b = code[bonds.ends].sort(dim=0).values
    kind = (a * 4 + b) * 3 + bonds.order - 1
    out = torch.zeros(len(molecules), 4 + 48 + 1, dtype=torch.float64)
    out[:, 52] = 1
    out.index_put_((row, code), torch.ones(1, dtype=torch.float64), accumulate=True)
    out.index_put_((row[bonds.ends[0]], 4 + kind), torch.ones(1, dtype=torch.float64), accumulate=True)
    return out


def test_the_protocol_on_real_molecules(qm9):
    """Real molecules that claim to be generated: asked for their own HOMO they reach the regressor's own error, for
    that of others the upper bound."""
    _, _, _, take = qm9
    train, train_labels = take('train', 6000)
    for_regressor, _ = halves(len(train))
    x, y = bond_counts([train[i] for i in for_regressor]), train_labels[for_regressor]
    weights = torch.linalg.solve(x.T @ x + torch.eye(x.size(1)), x.T @ (y - y.mean()))

    def regressor(molecules):
        return bond_counts(molecules) @ weights + y.mean()
    test, labels = take('test', 2000)
    train_sizes = torch.tensor([data.z.numel() for data in train])

    def judge(requested):
        return property_error(regressor, test, requested, test, labels, train_sizes, train_labels)
    own, other = judge(labels), judge(labels.roll(1))
    assert own.mae == own.regressor < 0.75 * own.size_only < 0.75 * own.random
    assert other.mae == pytest.approx(own.random, rel=0.03)


@pytest.mark.parametrize('changes, message', [
    (dict(requested=torch.ones(3)), r"'requested' must be \[2\] \(got \(3,\)\)"),
    (dict(generated=[None, None]), r"'generated' must hold at least one molecule that can be read \(got none of 2\)"),
    (dict(regressor=lambda m: torch.ones(1, len(m))), r"'regressor' must return one value a molecule, \[2\]"),
    (dict(regressor=lambda m: torch.full((len(m), ), torch.nan)), r"expected finite values"),
    (dict(labels=torch.ones(4)), r"expected two vectors of one length \(got \(4,\) and \(2,\)\)"),
    (dict(train_labels=torch.ones(4)), r"expected two vectors of one length \(got \(2,\) and \(4,\)\)"),
    (dict(train_labels=torch.ones(0), train_sizes=torch.ones(0)),
     r"'train_labels' and 'labels' must hold values \(got 0 and 2\)"),
    (dict(real=[molecule(2)], labels=torch.ones(1)), r"'labels' must hold at least 2 values \(got 1\)"),
], ids=range(8))
def test_errors(changes, message):
    good = dict(regressor=mass, generated=[molecule(2), molecule(3)], requested=torch.ones(2),
                real=[molecule(2), molecule(3)], labels=torch.ones(2), train_sizes=torch.tensor([2, 3]),
                train_labels=torch.ones(2))
    with pytest.raises(ValueError, match=message):
        property_error(**(good | changes))


def test_one_molecule_has_no_halves():
    with pytest.raises(ValueError, match=r"'num' must be at least 2 \(got 1\)"):
        halves(1)
