import os
from unittest.mock import patch

import pytest

from torch_geometric_inertial.files import write_atomically


def test_the_file_is_whole_and_nothing_else_is_left(tmp_path):
    path = tmp_path / 'a' / 'b.txt'
    assert write_atomically(path, lambda p: p.write_text('one')) == path
    assert write_atomically(str(path), lambda p: p.write_text('two')) == path
    assert path.read_text() == 'two' and os.listdir(path.parent) == ['b.txt']


def test_the_path_holds_the_old_file_until_the_new_one_is_on_disk(tmp_path):
    path, events = tmp_path / 'b.txt', []
    path.write_text('old')

    def write(temporary):
        temporary.write_text('new')
        assert path.read_text() == 'old' and temporary.parent == path.parent
        events.append('written')

    def fsync(number):
        assert path.read_text() == 'old'
        events.append('flushed')
    with patch('os.fsync', fsync):
        write_atomically(path, write)
    assert events == ['written', 'flushed'] and path.read_text() == 'new'


@pytest.mark.parametrize('error', [OSError('disk full'), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_file(tmp_path, error):
    path = tmp_path / 'b.txt'
    path.write_text('old')

    def write(temporary):
        temporary.write_text('ne')
        raise error
    with pytest.raises(type(error)):
        write_atomically(path, write)
    assert path.read_text() == 'old' and os.listdir(tmp_path) == ['b.txt']
