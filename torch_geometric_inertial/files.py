r"""Files that a crash leaves whole, folders that one process at a time writes to, and what is wrong with a file that
was fetched."""
from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import pickle
import platform
import stat
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = '.lock'
#: What readers of damaged files raise.
DAMAGE = (OSError, EOFError, BadZipFile, zlib.error, pickle.UnpicklingError, UnicodeError, KeyError, RuntimeError,
          ValueError, AssertionError)
_HOST = f'{zlib.crc32(platform.node().encode()):08x}'  # process numbers mean something on one machine alone


def write_atomically(path: str | Path, write: Callable[[Path], Any]) -> Path:
    r"""Calls :obj:`write(temporary path)`, flushes to disk, and renames to :obj:`path`, in the same folder.

    A new file has the permissions that the umask allows, one that is replaced keeps its own. A symbolic link stays, and
    what it points to is replaced. A device or a pipe is written to as it is. What an earlier process left half written
    at this path when it was killed is removed.

    Raises:
        IsADirectoryError: If there is a folder at :obj:`path`.
    """
    write_all_atomically({path: write})
    return Path(path)


def write_all_atomically(writes: Mapping[Any, Callable[[Path], Any]]) -> None:
    r"""Files that belong together: all are written and on disk before the first takes its name, see
    :func:`write_atomically`."""
    ready: list[tuple[Path, Path]] = []
    try:
        for path, write in writes.items():
            target = Path(os.path.realpath(path))
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, 'there is a folder where a file should be written', str(path))
            if target.exists() and not target.is_file():
                write(target)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_orphans(target)
            temporary = target.with_name(f'.{target.name}.{_HOST}-{os.getpid()}.part')
            ready.append((temporary, target))
            os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666))  # as the umask allows
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            write(temporary)
            with open(temporary, 'rb') as file:
                os.fsync(file.fileno())
            os.chmod(temporary, mode)  # some writers leave their files to themselves
        for temporary, target in ready:
            os.replace(temporary, target)
        for folder in {target.parent for _, target in ready}:
            sync_folder(folder)
    finally:
        for temporary, _ in ready:
            temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    r"""Flushes the names in a folder to disk, so that a rename outlives a power cut."""
    with contextlib.suppress(OSError):  # some file systems, and Windows, have no such thing
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def _remove_orphans(target: Path) -> None:
    """Half-written files of processes of this machine that are no more."""
    for path in target.parent.glob(f'.{_escaped(target.name)}.{_HOST}-*.part'):
        number = path.name.rsplit('-', 1)[1].removesuffix('.part')
        if number.isdecimal() and int(number) != os.getpid() and not _is_alive(int(number)):
            path.unlink(missing_ok=True)


def _escaped(name: str) -> str:
    return ''.join(f'[{c}]' if c in '*?[' else c for c in name)


def _is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # of somebody else
    return True


@contextlib.contextmanager
def locked_folder(folder: str | Path, wait: bool = False) -> Iterator[Path]:
    r"""Makes a folder this process's own for as long as the context lasts. The system frees it if the process dies.

    Args:
        folder (str or Path): The folder, which is made if need be.
        wait (bool): Whether to wait until another process that has it is done. (default: :obj:`False`)

    Raises:
        ValueError: If another process has it.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    if fcntl is None:
        yield folder
        return
    with open(folder / LOCK_FILE, 'a+') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            file.seek(0)
            raise ValueError(f"'{folder}' is in use by another process ({file.read().strip() or 'unknown'}): wait for "
                             "it, or choose another folder") from None
        except OSError:  # a file system without locks
            yield folder
            return
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}\n')
        file.flush()
        try:
            yield folder
        finally:
            with contextlib.suppress(OSError):
                file.truncate(0)


def sha256_of(path: str | Path) -> str:
    r"""SHA-256 of a file, as hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while part := file.read(2**20):
            digest.update(part)
    return digest.hexdigest()


@contextlib.contextmanager
def reading(path: str | Path) -> Iterator[Path]:
    r"""Turns whatever goes wrong while a file is read into an error that names it and says to delete it.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is empty, a web page in the place of a download, or damaged.
    """
    path = Path(path)
    with open(path, 'rb') as file:
        start = file.read(256).lstrip().lower()
    if not start:
        raise ValueError(f"'{path}' is empty: delete it, and fetch it again")
    if start.startswith((b'<!doctype html', b'<html')):
        raise ValueError(f"'{path}' is a web page, not the file that was to be downloaded: delete it, and fetch it "
                         'again')
    try:
        yield path
    except DAMAGE as error:
        if isinstance(error, ValueError) and str(path) in str(error):  # says more than we could
            raise
        raise ValueError(f"'{path}' is truncated or damaged ({error or type(error).__name__}): delete it, and fetch it "
                         'again') from error
