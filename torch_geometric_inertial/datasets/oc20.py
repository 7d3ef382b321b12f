r"""OC20: relaxations of adsorbates on surfaces, initial and relaxed structure and energy."""
from __future__ import annotations

import bisect
import functools
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data, Dataset

from torch_geometric_inertial.datasets.stored_graphs import load_stored, stored_fields

URL = 'https://dl.fbaipublicfiles.com/opencatalystproject/data/is2res_train_val_test_lmdbs.tar.gz'
SIZES = ('all', '100k', '10k')
SPLITS = ('train', 'val_id', 'val_ood_ads', 'val_ood_cat', 'val_ood_both', 'test_id', 'test_ood_ads', 'test_ood_cat',
          'test_ood_both')


#: What reading a broken record may end in.
BROKEN = (ValueError, TypeError, RuntimeError, KeyError, IndexError, AttributeError, OverflowError)


class OC20(Dataset):
    r"""The official LMDB files of the IS2RE and IS2RS tasks of OC20 (Chanussot et al. 2021, arXiv:2010.09990; CC BY
    4.0), which share them.

    Read from disk, item by item; needs the package :obj:`lmdb`. Items of PyG before and after 2.0 are read alike, and
    nothing that a pickle names is run but the making of tensors. Each item is a :class:`~torch_geometric.data.Data`:

    - :obj:`z` [N]; :obj:`pos` [N, 3], the initial positions, Å;
    - :obj:`tags` [N]: 0 below the surface, 1 surface, 2 adsorbate; :obj:`fixed` [N], bool: held in the relaxation;
    - :obj:`cell` [1, 3, 3], lattice vectors as rows, Å; :obj:`pbc` [1, 3], true; :obj:`sid` [1], the system's number;
    - except in the test splits, :obj:`energy` [1] and :obj:`energy_initial` [1], adsorption energies of the relaxed and
      of the initial structure, eV, float64; and :obj:`pos_relaxed` [N, 3].

    The stored graphs are left out. The data set can be given to :func:`~torch_geometric_inertial.training.fit`.

    Args:
        root: Where the archive was unpacked: a folder in which, or in whose folder :obj:`data` or
            :obj:`is2res_train_val_test_lmdbs/data`, :obj:`is2re/{size}/{split}/data.lmdb` stands. Or one :obj:`.lmdb`
            file, or a folder of such, whose split is then what it is.
        split: :obj:`'train'`, :obj:`'val_id'`, :obj:`'val_ood_ads'`, :obj:`'val_ood_cat'`, :obj:`'val_ood_both'` or the
            same of :obj:`'test'`. (default: :obj:`'train'`)
        size: Systems to train on: :obj:`'all'` 460,328, :obj:`'100k'` or :obj:`'10k'`. (default: :obj:`'all'`)
        transform: Applied to an item whenever it is read.

    Raises:
        ImportError: Without :obj:`lmdb`.
        ValueError: If there is no such split or size, or no data.
    """
    def __init__(self, root: str, split: str = 'train', size: str = 'all',
                 transform: Callable[[Data], Data] | None = None):
        if split not in SPLITS:
            raise ValueError(f"'split' must be one of {', '.join(SPLITS)} (got '{split}')")
        if size not in SIZES:
            raise ValueError(f"'size' must be one of {', '.join(SIZES)} (got '{size}')")
        _lmdb()
        self.split, self.size = split, size
        self.files = find_lmdbs(Path(root), split, size)
        super().__init__(str(root), transform)
        self._end = list(accumulate(_count(path) for path in self.files))

    def len(self) -> int:
        return self._end[-1]

    def get(self, idx: int) -> Data:
        number = bisect.bisect(self._end, idx)
        file, key = self.files[number], idx - (self._end[number - 1] if number else 0)
        stored = _read(file, str(key))
        if stored is None:
            raise ValueError(f"'{file}' must hold {self._end[number]} systems, but lacks number {key}")
        try:
            return as_relaxation(stored_fields(stored))
        except BROKEN as error:
            raise ValueError(f"system {key} of '{file}': {error or type(error).__name__}") from error

    def batch(self, index: Tensor) -> Data:
        r"""The systems :obj:`index` [B] as one batch."""
        return Batch.from_data_list([self[i] for i in index.tolist()])


def find_lmdbs(root: Path, split: str, size: str) -> list[Path]:
    r"""The files of a split.

    Raises:
        ValueError: If there is none; says where they come from.
    """
    if root.suffix == '.lmdb' and root.is_file():
        return [root]
    part = Path('is2re', size if split == 'train' else 'all', split)
    folders = [root, *(root / above / part for above in ('', 'data', 'is2res_train_val_test_lmdbs/data'))]
    for folder in folders:
        if files := sorted(folder.glob('*.lmdb')):
            return files
    raise ValueError(f"'root' must hold {part / 'data.lmdb'}, from {URL} (8.1 GB, unpacked 97 GB) (got '{root}')")


def as_relaxation(fields: dict[str, Any]) -> Data:
    r"""An item from the fields of a stored one, see :class:`OC20`.

    Raises:
        ValueError: If a field is missing or of another size.
    """
    missing = {'atomic_numbers', 'pos', 'cell', 'tags'} - fields.keys()
    if missing:
        raise ValueError(f"an item of OC20 must have 'atomic_numbers', 'pos', 'cell' and 'tags' (got {sorted(fields)})")
    z = torch.as_tensor(fields['atomic_numbers']).long().flatten()
    tags = torch.as_tensor(fields['tags']).long().flatten()
    fixed = torch.as_tensor(fields['fixed']).flatten() > 0 if 'fixed' in fields else tags == 0
    data = Data(z=z, pos=_vectors(fields['pos']), cell=_vectors(fields['cell']).view(-1, 3, 3),
                pbc=torch.ones(1, 3, dtype=torch.bool), tags=tags, fixed=fixed)
    if 'sid' in fields:
        data.sid = torch.as_tensor(fields['sid']).long().view(1)
    if 'pos_relaxed' in fields:
        data.pos_relaxed = _vectors(fields['pos_relaxed'])
    for name, stored in (('energy', 'y_relaxed'), ('energy_initial', 'y_init')):
        if stored in fields:
            data[name] = torch.as_tensor(np.asarray(fields[stored], dtype=np.float64)).view(1)
    sizes = {name: data[name].size(0) for name in ('z', 'pos', 'tags', 'fixed', 'pos_relaxed') if name in data}
    if len(set(sizes.values())) > 1 or data.cell.size(0) != 1:
        raise ValueError(f"the fields must have a row an atom, and one cell (got {sizes} and {data.cell.size(0)})")
    return data


def _vectors(x: Any) -> Tensor:
    return torch.as_tensor(x).float().reshape(-1, 3)


def _lmdb():
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("reading OC20 needs lmdb: pip install lmdb") from error
    return lmdb


@functools.cache
def _environment(path: Path):
    """One a file, since a process may open none twice; a read-only one without locks survives forks."""
    return _lmdb().open(str(path), subdir=False, readonly=True, lock=False, readahead=False, meminit=False,
                        max_readers=1)


def _read(path: Path, key: str) -> bytes | None:
    try:
        with _environment(path.resolve()).begin() as transaction:
            return transaction.get(key.encode('ascii'))
    except _lmdb().Error as error:
        raise ValueError(f"'{path}' is truncated, damaged or no LMDB file ({error}): delete it, and unpack it again"
                         ) from error


def _count(path: Path) -> int:
    """Stored under 'length', or else the number of entries."""
    length = _read(path, 'length')
    if length is None:
        return _environment(path.resolve()).stat()['entries']
    try:
        return int(load_stored(length))
    except BROKEN as error:
        raise ValueError(f"'{path}' does not say how many systems it holds ({error}): delete it, and unpack it again"
                         ) from error
