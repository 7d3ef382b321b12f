r"""The split of QM9 that EDM and its successors use."""
from collections.abc import Iterable
from functools import cache
from importlib.resources import files

import numpy as np
import torch
from torch import Tensor

NUM_GDB = 133_885  #: Molecules of QM9, numbered from 1 in the file gdb9.sdf.
SPLITS = {'train': slice(0, 100_000), 'valid': slice(100_000, 117_748), 'test': slice(117_748, None)}


@cache
def _split_of_id() -> Tensor:
    with files('torch_geometric_inertial.datasets').joinpath('qm9_uncharacterized.npz').open('rb') as stream:
        uncharacterized = np.load(stream)['gdb_id']
    known = np.setdiff1d(np.arange(1, NUM_GDB + 1), uncharacterized)
    shuffled = known[np.random.RandomState(0).permutation(len(known))]
    code = torch.full((NUM_GDB + 1, ), -1)
    for number, part in enumerate(SPLITS.values()):
        code[torch.from_numpy(shuffled[part])] = number
    return code


def gdb_ids(names: Iterable[str]) -> Tensor:
    r"""The GDB numbers [M] of molecules by their names, such as :obj:`'gdb_123'`, as in :obj:`name` of PyG's QM9.

    Its :obj:`idx` is the place of a molecule in the file, which is another number where the file lacks molecules.

    Raises:
        ValueError: If a name has another form.
    """
    numbers = []
    for name in names:
        prefix, _, number = name.partition('_')
        if prefix != 'gdb' or not number.isdecimal():
            raise ValueError(f"'names' must be like 'gdb_123' (got '{name}')")
        numbers.append(int(number))
    return torch.tensor(numbers, dtype=torch.long)


def qm9_split(gdb_id: Tensor, split: str) -> Tensor:
    r"""Which molecules belong to a part of the split of Anderson et al. (Cormorant, 2019), as used by EDM.

    Of the 130,831 molecules that are not "uncharacterized", in GDB order, a permutation drawn by NumPy with seed 0
    gives 100,000 for training, 17,748 for validation and 13,083 for test.

    Args:
        gdb_id (Tensor): GDB numbers [M], from 1; :func:`gdb_ids` reads those of
            :class:`torch_geometric.datasets.QM9` off its names.
        split (str): :obj:`'train'`, :obj:`'valid'` or :obj:`'test'`.

    Returns:
        Tensor: Mask [M].

    Raises:
        ValueError: If there is no such split or number.
    """
    if split not in SPLITS:
        raise ValueError(f"'split' must be one of {', '.join(SPLITS)} (got '{split}')")
    if gdb_id.numel() and not 1 <= int(gdb_id.min()) <= int(gdb_id.max()) <= NUM_GDB:
        raise ValueError(f"'gdb_id' must be in 1 … {NUM_GDB} (got {int(gdb_id.min())} … {int(gdb_id.max())})")
    return _split_of_id()[gdb_id] == list(SPLITS).index(split)
