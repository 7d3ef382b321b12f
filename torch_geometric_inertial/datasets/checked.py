r"""Stored data sets that know what they were made with."""
from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import InMemoryDataset
from torch_geometric.data.data import BaseData

from torch_geometric_inertial.datasets.raw_files import raw_sizes
from torch_geometric_inertial.files import locked_folder, sha256_of, write_atomically


class CheckedInMemoryDataset(InMemoryDataset):
    r"""An :class:`~torch_geometric.data.InMemoryDataset` whose stored files are made again if they were made with
    another :obj:`pre_transform` or :obj:`pre_filter` or from other raw files, or are cut off, where PyG warns and uses
    them; and that refuses a file which was altered.

    Each file is whole or not there, whenever the process that makes it is killed. Of several processes one makes them,
    and the others wait. Files that are there are read from a folder that cannot be written to. Nothing that is stored
    can run code.
    """
    def _process(self) -> None:
        """Not PyG's: that reads, whatever else it is asked for, two pickles in this folder, which can run code, and
        which cannot be read, ever again, if the process was killed while it wrote them."""
        wanted = dict(pre_transform=described(self.pre_transform), pre_filter=described(self.pre_filter),
                      raw=raw_sizes(self))
        paths = [Path(path) for path in self.processed_paths]
        if not self._why_again(wanted, paths):
            return
        with locked_folder(self.processed_dir, wait=True):
            why = self._why_again(wanted, paths)
            if not why:  # another process was faster
                return
            if any(path.exists() for path in paths):
                if self.log:
                    warnings.warn(f"what is stored in '{self.processed_dir}' does not fit ({', '.join(why)}) and is "
                                  'made again', stacklevel=4)
                for path in (self._facts_file, *paths):
                    path.unlink(missing_ok=True)
            self.process()
            files = {path.name: [path.stat().st_size, sha256_of(path)] for path in paths}
            text = json.dumps(dict(wanted, files=files), indent=1)
            write_atomically(self._facts_file, lambda path: path.write_text(text))  # last: now all of it is there

    def _why_again(self, wanted: dict[str, Any], paths: list[Path]) -> list[str]:
        """What does not fit."""
        facts = self._facts()
        why = [name for name in wanted if facts.get(name) != wanted[name]]
        why += [path.name for path in paths
                if not path.is_file() or facts.get('files', {}).get(path.name, [None])[0] != path.stat().st_size]
        return why

    @classmethod
    def save(cls, data_list: Sequence[BaseData], path: str) -> None:
        r"""Stores molecules in a file, whole or not at all."""
        store = super().save
        write_atomically(path, lambda temporary: store(data_list, str(temporary)))

    def load_checked(self, path: str) -> None:
        r"""Loads a stored file.

        Raises:
            ValueError: If it is not what was stored, or no molecules.
        """
        if sha256_of(path) != self._facts().get('files', {}).get(Path(path).name, [0, ''])[1]:
            raise ValueError(f"'{path}' is damaged, it is not what was stored: delete it, and it is made again")
        try:
            fields, self.slices, kind = torch.load(path, weights_only=True)  # PyG's runs code if it must
            self.data = kind.from_dict(fields)
        except Exception as error:
            raise ValueError(f"'{path}' holds something else than molecules, and is not read: delete it, and it is "
                             'made again') from error

    @property
    def _facts_file(self) -> Path:
        return Path(self.processed_paths[0]).with_suffix('.json')

    def _facts(self) -> dict[str, Any]:
        try:
            facts = json.loads(self._facts_file.read_text())
            return facts if isinstance(facts, dict) else {}
        except (OSError, ValueError):
            return {}


def described(function: Callable | None) -> str:
    r"""What a transform is, without its address in memory; a function by its instructions."""
    code = getattr(function, '__code__', None)
    if code is not None:
        consts = [const for const in code.co_consts if not hasattr(const, 'co_code')]
        return f'{code.co_name} {code.co_code.hex()} {code.co_names} {consts}'
    return re.sub(r' at 0x[0-9a-f]+', '', repr(function))
