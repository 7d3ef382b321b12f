import os
import signal
import stat
from unittest.mock import patch

import pytest

from torch_geometric_inertial.files import LOCK_FILE, locked_folder, sha256_of, write_all_atomically, write_atomically


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
        if stat.S_ISDIR(os.fstat(number).st_mode):  # so that the rename lasts
            assert path.read_text() == 'new'
            events.append('folder')
            return
        assert path.read_text() == 'old'
        events.append('flushed')
    with patch('os.fsync', fsync):
        write_atomically(path, write)
    assert events == ['written', 'flushed', 'folder'] and path.read_text() == 'new'


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


@pytest.mark.parametrize('umask, mode', [(0o077, 0o600), (0o022, 0o644), (0o002, 0o664)])
def test_a_new_file_has_the_mode_that_the_umask_allows(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        write_atomically(tmp_path / 'a', lambda p: p.write_text(''))

        def secretive(path):  # as a writer that makes a file of its own and renames it
            path.unlink()
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))
        write_atomically(tmp_path / 'b', secretive)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in 'ab'] == [mode, mode]


def test_a_replaced_file_keeps_its_mode(tmp_path):
    path = write_atomically(tmp_path / 'a', lambda p: p.write_text('one'))
    path.chmod(0o640)
    write_atomically(path, lambda p: p.write_text('two'))
    assert stat.S_IMODE(path.stat().st_mode) == 0o640 and path.read_text() == 'two'


@pytest.mark.parametrize('exists', [True, False])
def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path, exists):
    target, link = tmp_path / 'far' / 'b.txt', tmp_path / 'b.txt'
    if exists:
        target.parent.mkdir()
        target.write_text('old')
    link.symlink_to('far/b.txt')
    assert write_atomically(link, lambda p: p.write_text('new')) == link
    assert link.is_symlink() and target.read_text() == 'new' and not target.is_symlink()
    assert sorted(os.listdir(tmp_path)) == ['b.txt', 'far'] and os.listdir(target.parent) == ['b.txt']


def test_a_device_is_written_to_and_stays(tmp_path):
    write_atomically('/dev/null', lambda p: p.write_text('gone'))
    assert stat.S_ISCHR(os.stat('/dev/null').st_mode)


def test_a_folder_in_the_way_is_found_before_the_work(tmp_path):
    with pytest.raises(IsADirectoryError, match='there is a folder where a file should be written'):
        write_atomically(tmp_path, lambda p: pytest.fail('it was written'))


def test_what_a_killed_process_left_is_removed_by_the_next(tmp_path):
    path = tmp_path / 'a[1].txt'
    if os.fork() == 0:
        write_atomically(path, lambda p: (p.write_text('half'), os.kill(os.getpid(), signal.SIGKILL)))
    os.wait()
    assert len(os.listdir(tmp_path)) == 1 and not path.exists()
    alive = tmp_path / os.listdir(tmp_path)[0].replace(os.listdir(tmp_path)[0].split('-')[-1], f'{os.getppid()}.part')
    alive.write_text('of a process that is alive')
    write_atomically(path, lambda p: p.write_text('whole'))
    assert sorted(os.listdir(tmp_path)) == sorted([alive.name, path.name])


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path):
    write_all_atomically({tmp_path / name: lambda p: p.write_text('old') for name in 'ab'})

    def fail(path):
        raise OSError('disk full')
    with pytest.raises(OSError, match='disk full'):
        write_all_atomically({tmp_path / 'a': lambda p: p.write_text('new'), tmp_path / 'b': fail})
    assert [(tmp_path / name).read_text() for name in 'ab'] == ['old', 'old'] and len(os.listdir(tmp_path)) == 2


def test_a_folder_has_one_owner_at_a_time(tmp_path):
    in_use = rf"'{tmp_path}' is in use by another process \(process {os.getpid()} on "
    with locked_folder(tmp_path), pytest.raises(ValueError, match=in_use):
        locked_folder(tmp_path).__enter__()
    with pytest.raises(RuntimeError), locked_folder(tmp_path):
        raise RuntimeError
    if os.fork() == 0:  # the system frees the folder of a process that dies
        locked_folder(tmp_path).__enter__()
        os.kill(os.getpid(), signal.SIGKILL)
    os.wait()
    with locked_folder(tmp_path):
        assert os.listdir(tmp_path) == [LOCK_FILE]


def test_sha256_of_a_file(tmp_path):
    (tmp_path / 'a').write_bytes(b'abc')
    assert sha256_of(tmp_path / 'a') == 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'
