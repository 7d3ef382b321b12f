import numpy as np
import pytest
import torch

from torch_geometric_inertial.datasets import QM9Sample, gdb_ids, qm9_split
from torch_geometric_inertial.datasets.qm9_split import NUM_GDB


def test_the_parts_are_disjoint_and_have_the_published_sizes():
    number = torch.arange(1, NUM_GDB + 1)
    parts = [qm9_split(number, split) for split in ('train', 'valid', 'test')]
    assert [int(part.sum()) for part in parts] == [100_000, 17_748, 13_083]
    assert int(torch.stack(parts).sum(0).max()) == 1  # and 3,054 "uncharacterized" molecules in none


def test_it_is_the_split_of_edm(shared_data):
    with np.load(shared_data / 'qm9' / 'qm9_splits.npz') as file:
        stored = {name: torch.from_numpy(file[f'edm_{name}']).long() for name in ('train', 'valid', 'test')}
    for name, numbers in stored.items():
        assert bool(qm9_split(numbers, name).all())
        for other in set(stored) - {name}:
            assert not bool(qm9_split(numbers, other).any())


def test_the_embedded_sample_is_of_the_training_part():
    assert bool(qm9_split(QM9Sample()._data.idx + 1, 'train').all())


def test_numbers_come_from_names():
    assert gdb_ids(['gdb_1', 'gdb_133885', 'gdb_7']).tolist() == [1, 133_885, 7]
    assert gdb_ids([]).shape == (0, ) and gdb_ids([]).dtype == torch.long
    for name in ('7', 'gdb_', 'gdb_7a', 'pubchem_7', 'gdb_-7'):
        with pytest.raises(ValueError, match=rf"'names' must be like 'gdb_123' \(got '{name}'\)"):
            gdb_ids(['gdb_1', name])


def test_order_and_repetition_are_those_of_the_question():
    number = torch.tensor([7, 1, 7, 133_885])
    assert torch.equal(qm9_split(number, 'train'), torch.cat([qm9_split(n[None], 'train') for n in number]))
    assert qm9_split(number[:0], 'test').shape == (0, )


@pytest.mark.parametrize('number, split, message', [
    ([1], 'dev', r"'split' must be one of train, valid, test \(got 'dev'\)"),
    ([0, 5], 'train', r"'gdb_id' must be in 1 … 133885 \(got 0 … 5\)"),
    ([5, 133_886], 'test', r"'gdb_id' must be in 1 … 133885 \(got 5 … 133886\)"),
])
def test_errors(number, split, message):
    with pytest.raises(ValueError, match=message):
        qm9_split(torch.tensor(number), split)
