import warnings

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.datasets.checked import CheckedInMemoryDataset, described


class Numbers(CheckedInMemoryDataset):
    """Items of the numbers in a raw file."""
    def __init__(self, root, **kwargs):
        super().__init__(str(root), **kwargs)
        self.load_checked(self.processed_paths[0])

    raw_file_names = ('numbers.txt', )
    processed_file_names = ('numbers.pt', )

    def process(self):
        with open(self.raw_paths[0]) as file:
            items = [Data(x=torch.tensor([float(line)])) for line in file]
        if self.pre_filter is not None:
            items = [item for item in items if self.pre_filter(item)]
        if self.pre_transform is not None:
            items = [self.pre_transform(item) for item in items]
        self.save(items, self.processed_paths[0])


@pytest.fixture
def root(tmp_path):
    (tmp_path / 'raw').mkdir()
    (tmp_path / 'raw' / 'numbers.txt').write_text('1\n2\n3\n')
    return tmp_path


def values(dataset):
    return [float(item.x) for item in dataset]


def test_what_fits_is_read_again(root):
    assert values(Numbers(root)) == [1, 2, 3]
    before = (root / 'processed' / 'numbers.pt').stat().st_mtime_ns
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        assert values(Numbers(root)) == [1, 2, 3]
    assert (root / 'processed' / 'numbers.pt').stat().st_mtime_ns == before


def test_another_transform_filter_or_raw_file_makes_it_again(root):
    Numbers(root)
    for kwargs, expected, why in ((dict(pre_transform=lambda item: Data(x=item.x + 1)), [2, 3, 4], 'pre_transform'),
                                  (dict(pre_transform=lambda item: Data(x=item.x + 5)), [6, 7, 8], 'pre_transform'),
                                  (dict(pre_filter=lambda item: item.x > 1), [2, 3], 'pre_transform, pre_filter')):
        with pytest.warns(UserWarning, match=rf'does not fit \({why}\) and is made again'):
            assert values(Numbers(root, **kwargs)) == expected
    (root / 'raw' / 'numbers.txt').write_text('1\n2\n3\n4\n')
    with pytest.warns(UserWarning, match=r'does not fit \(pre_filter, raw\)'):
        assert values(Numbers(root)) == [1, 2, 3, 4]


def test_a_cut_file_is_made_again_and_an_altered_one_is_named(root):
    Numbers(root)
    path = root / 'processed' / 'numbers.pt'
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.warns(UserWarning, match=r'does not fit \(numbers.pt\) and is made again'):
        assert values(Numbers(root)) == [1, 2, 3]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"'.*numbers.pt' is damaged, it is not what was stored: delete it, and it is"):
        Numbers(root)
    path.unlink()
    assert values(Numbers(root)) == [1, 2, 3]


def test_a_stored_file_that_nobody_vouches_for_is_made_again(root):
    Numbers(root)
    (root / 'processed' / 'numbers.json').write_text('[]')
    with pytest.warns(UserWarning, match='is made again'):
        assert values(Numbers(root)) == [1, 2, 3]


def test_functions_are_told_apart_by_what_they_do():
    one, same, other = (lambda x: x + 1), (lambda x: x + 1), (lambda x: x + 2)
    assert described(one).split()[1:] == described(same).split()[1:]
    assert described(one) != described(other) and described(None) == 'None'
    assert ' at 0x' not in described(Numbers.process.__get__(object()))
