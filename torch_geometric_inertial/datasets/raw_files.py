r"""Files that come from elsewhere."""
from __future__ import annotations

from pathlib import Path

from torch_geometric.data import Dataset, download_url


def raw_sizes(dataset: Dataset) -> dict[str, int]:
    r"""The sizes of a data set's raw files, as far as it has any and they are there."""
    try:
        paths = [Path(path) for path in dataset.raw_paths]
    except NotImplementedError:
        return {}
    return {path.name: path.stat().st_size for path in paths if path.is_file()}


def download(url: str, folder: str) -> str:
    r"""Fetches a file into a folder, and returns its path. What came of it is removed where the network fails.

    Raises:
        OSError: With what to do.
    """
    before = set(Path(folder).glob('*'))
    try:
        return download_url(url, folder)
    except BaseException as error:
        for path in set(Path(folder).glob('*')) - before:
            path.unlink()
        if not isinstance(error, OSError):
            raise
        raise OSError(f"'{url}' cannot be downloaded ({error}): try again with a network, or put the file into "
                      f"'{folder}'") from error
