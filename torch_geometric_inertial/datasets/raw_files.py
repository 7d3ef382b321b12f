r"""Reading files that came from elsewhere: what is damaged is named, with what to do."""
from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

from torch_geometric.data import Dataset

DAMAGE = (OSError, EOFError, BadZipFile, zlib.error, pickle.UnpicklingError, UnicodeError, KeyError, RuntimeError,
          ValueError, AssertionError)


def raw_sizes(dataset: Dataset) -> dict[str, int]:
    r"""The sizes of a data set's raw files, as far as it has any and they are there."""
    try:
        paths = [Path(path) for path in dataset.raw_paths]
    except NotImplementedError:
        return {}
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


@contextmanager
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
