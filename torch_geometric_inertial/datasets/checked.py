r"""Stored data sets that know what they were made with."""
from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch_geometric.data import InMemoryDataset

from torch_geometric_inertial.datasets.raw_files import raw_sizes
from torch_geometric_inertial.files import sha256_of, write_atomically


class CheckedInMemoryDataset(InMemoryDataset):
    r"""An :class:`~torch_geometric.data.InMemoryDataset` whose stored files are made again if they were made with
    another :obj:`pre_transform` or :obj:`pre_filter` or from other raw files, or are cut off, where PyG warns and uses
    them; and that refuses a file which was altered."""
    def _process(self) -> None:
        wanted = dict(pre_transform=described(self.pre_transform), pre_filter=described(self.pre_filter),
                      raw=raw_sizes(self))
        paths = [Path(path) for path in self.processed_paths]
        if any(path.exists() for path in paths):
            facts = self._facts()
            why = [name for name in wanted if facts.get(name) != wanted[name]]
            why += [path.name for path in paths
                    if not path.is_file() or facts.get('files', {}).get(path.name, [None])[0] != path.stat().st_size]
            if why:
                if self.log:
                    warnings.warn(f"what is stored in '{self.processed_dir}' does not fit ({', '.join(why)}) and is "
                                  'made again', stacklevel=4)
                for path in paths:
                    path.unlink(missing_ok=True)
        made = not all(path.is_file() for path in paths)
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='The `pre_(transform|filter)` argument differs')
            super()._process()
        if made:
            files = {path.name: [path.stat().st_size, sha256_of(path)] for path in paths}
            text = json.dumps(dict(wanted, files=files), indent=1)
            write_atomically(self._facts_file, lambda path: path.write_text(text))

    def load_checked(self, path: str) -> None:
        r"""Loads a stored file.

        Raises:
            ValueError: If it is not what was stored.
        """
        if sha256_of(path) != self._facts().get('files', {}).get(Path(path).name, [0, ''])[1]:
            raise ValueError(f"'{path}' is damaged, it is not what was stored: delete it, and it is made again")
        self.load(path)

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
