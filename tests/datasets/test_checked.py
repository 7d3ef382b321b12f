import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
import torch
from helpers.faults import as_somebody_else, finish, full_disk, killed_at, start
from torch_geometric.data import Data

from torch_geometric_inertial.datasets.checked import CheckedInMemoryDataset, described
from torch_geometric_inertial.files import sha256_of


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


# Faults -------------------------------------------------------------------------------------------------------------

def test_a_process_that_is_killed_leaves_each_file_whole_or_not_there(root):
    """Before each of its writes in turn; the next run makes all of it, and nothing half written is left."""
    Numbers(root)
    folder = root / 'processed'
    whole = {name: (folder / name).read_bytes() for name in ('numbers.pt', 'numbers.json')}
    step = 0
    while True:
        shutil.rmtree(folder)
        if not killed_at(step, folder, lambda: Numbers(root)):
            break
        for path in folder.glob('numbers*'):
            assert path.read_bytes() == whole[path.name]
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            assert values(Numbers(root)) == [1, 2, 3]
        assert sorted(os.listdir(folder)) == sorted(['.lock', *whole])
        assert all((folder / name).read_bytes() == content for name, content in whole.items())
        step += 1
    assert step > 8


def test_a_process_that_is_killed_while_it_makes_them_again(root):
    for step in range(100):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            Numbers(root)  # as it was
            killed = killed_at(step, root, lambda: Numbers(root, pre_filter=lambda item: item.x > 1))
            assert values(Numbers(root, pre_filter=lambda item: item.x > 1)) == [2, 3]
        if not killed:
            return
    raise AssertionError('it never ended')


def test_a_full_disk_is_an_error_and_leaves_nothing(root):
    with full_disk(100), pytest.raises(OSError):
        Numbers(root)
    assert os.listdir(root / 'processed') == ['.lock']
    assert values(Numbers(root)) == [1, 2, 3]


@pytest.fixture
def open_root():
    """A folder that every user may read."""
    folder = Path(tempfile.mkdtemp())
    (folder / 'raw').mkdir()
    (folder / 'raw' / 'numbers.txt').write_text('1\n2\n3\n')
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob('*')):
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_written_to_is_read(open_root):
    def refused():
        with pytest.raises(PermissionError, match=str(open_root)):
            Numbers(open_root)

    def read():
        assert values(Numbers(open_root)) == [1, 2, 3]
    open_root.chmod(0o555)
    assert as_somebody_else(refused) == 0
    open_root.chmod(0o755)
    Numbers(open_root)
    for path in (open_root, open_root / 'processed'):
        path.chmod(0o555)
    assert as_somebody_else(read) == 0


def test_of_two_processes_one_makes_it_and_the_other_waits(root):
    class Slow(Numbers):
        def process(self):
            with open(root / 'calls', 'a') as file:
                file.write('one\n')
            super().process()
            for _ in range(50):  # the other is there by now, and sees files that are not all there
                os.sched_yield()

    def use():
        assert values(Slow(root)) == [1, 2, 3]
    assert [finish(number) for number in [start(use) for _ in range(4)]] == [0] * 4
    assert (root / 'calls').read_text() == 'one\n'


class Malice:
    """A pickle that makes a file when it is read."""
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


def test_nothing_that_is_stored_runs_code(root):
    """Neither the files that PyG keeps beside the molecules, nor the molecules with a hash that fits."""
    Numbers(root)
    folder, marker = root / 'processed', root / 'marker'
    for name in ('pre_transform.pt', 'pre_filter.pt'):
        torch.save(Malice(marker), folder / name)
    assert values(Numbers(root)) == [1, 2, 3]
    torch.save(Malice(marker), folder / 'numbers.pt')
    facts = json.loads((folder / 'numbers.json').read_text())
    facts['files']['numbers.pt'] = [(folder / 'numbers.pt').stat().st_size, sha256_of(folder / 'numbers.pt')]
    (folder / 'numbers.json').write_text(json.dumps(facts))
    with pytest.raises(ValueError, match=r"'.*numbers.pt' holds something else than molecules, and is not read"):
        Numbers(root)
    assert not marker.exists()
    torch.load(folder / 'pre_filter.pt', weights_only=False)  # the marker works
    assert marker.exists()


def test_what_pyg_left_half_written_blocks_nothing(root):
    Numbers(root)
    (root / 'processed' / 'pre_transform.pt').write_bytes(b'')
    assert values(Numbers(root)) == [1, 2, 3]
