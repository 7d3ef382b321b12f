r"""The split of QM9 that EDM and its successors use."""
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


def qm9_split(gdb_id: Tensor, split: str) -> Tensor:
    r"""Which molecules belong to a part of the split of Anderson et al. (Cormorant, 2019), as used by EDM.

    Of the 130,831 molecules that are not "uncharacterized", in GDB order, a permutation drawn by NumPy with seed 0
    gives 100,000 for training, 17,748 for validation and 13,083 for test.

    Args:
        gdb_id (Tensor): GDB numbers [M], from 1; those of :class:`torch_geometric.datasets.QM9` are :obj:`idx + 1`.
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
