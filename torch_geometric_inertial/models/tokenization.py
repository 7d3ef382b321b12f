r"""Molecules as the generators read them: types, positions and offsets, checked."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.data import ptr_of
from torch_geometric_inertial.elements import SYMBOLS


def tokenize(data: Data, vocabulary: Tensor, max_atoms: int) -> tuple[Tensor, Tensor, Tensor]:
    r"""Types [T], positions [T, 3] (float32) and offsets [B + 1] of a molecule or a batch.

    Args:
        data (Data or Batch): :obj:`z` [T], :obj:`pos` [T, 3] in Å, and :obj:`ptr` [B + 1] or :obj:`batch` [T] if
            there are several.
        vocabulary (Tensor): The type of each atomic number, -1 for unknown ones.
        max_atoms (int): Longest molecule.

    Raises:
        ValueError: On missing, misshapen, empty, non-finite or too long molecules, on unknown elements, on tensors of
            another device than the vocabulary's, and where the molecules cannot be told apart.
    """
    z, pos = data.get('z'), data.get('pos')
    if z is None or pos is None:
        raise ValueError(f"a generator needs '{'z' if z is None else 'pos'}' in its input (got {data})")
    if z.dim() != 1 or pos.shape != (z.numel(), 3):
        raise ValueError(f"'z' must be [N] and 'pos' [N, 3] (got {tuple(z.shape)} and {tuple(pos.shape)})")
    if z.is_floating_point():
        raise ValueError(f"'z' must hold whole numbers (got {z.dtype})")
    if not z.device == pos.device == vocabulary.device:
        raise ValueError(f"'z' and 'pos' must be on the model's device, {vocabulary.device} "
                         f"(got {z.device} and {pos.device})")
    ptr = ptr_of(data)
    length = ptr.diff()
    if bool((length < 1).any()):
        raise ValueError(f'molecule {int((length < 1).nonzero()[0])} has no atoms')
    if int(length.max()) > max_atoms:
        raise ValueError(f"'max_atoms' is {max_atoms} (got molecule {int(length.argmax())} "
                         f"of {int(length.max())} atoms)")
    finite = pos.isfinite().all(dim=1)
    if not bool(finite.all()):
        raise ValueError(f"'pos' must be finite (got {pos[~finite][0].tolist()} at atom {int((~finite).nonzero()[0])})")
    known = (z >= 0) & (z < len(SYMBOLS))
    types = torch.where(known, vocabulary[torch.where(known, z, 0)], -1)
    if bool((types < 0).any()):
        symbols = ', '.join(symbol for symbol, index in zip(SYMBOLS, vocabulary.tolist(), strict=True) if index >= 0)
        raise ValueError(f"'z' must be one of the model's elements {symbols} (got {int(z[types < 0][0])} at atom "
                         f"{int((types < 0).nonzero()[0])})")
    return types, pos.float(), ptr
