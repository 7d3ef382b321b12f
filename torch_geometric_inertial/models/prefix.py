r"""Reading the beginning of molecules into the caches, as if it had just been written."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.nn.packing import Packing

if TYPE_CHECKING:
    from torch_geometric_inertial.models.autoregressor import AtomAutoregressor
    from torch_geometric_inertial.models.writing_state import Caches


class Prefix(NamedTuple):
    r"""What has been read of B beginnings.

    Attributes:
        token (Tensor): The token of the last atom, which no stack has seen yet [B, C].
        memory (Tensor): Vectors of the atoms from the second stack [B, N, C]; zero for the last one.
    """
    token: Tensor
    memory: Tensor


def read_prefix(model: AtomAutoregressor, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor,
                caches: Caches) -> Prefix:
    r"""One teacher-forced pass through both stacks.

    Args:
        model (AtomAutoregressor): The model.
        types (Tensor): Types of the atoms [T], packed; each molecule has at least one.
        pos (Tensor): Their positions [T, 3].
        ptr (Tensor): Offsets [B + 1].
        begin (Tensor): The token in slot 0 of each molecule [B, C].
        caches (dict): Empty ones of B rows, to be filled with all tokens but the last.
    """
    atoms = Packing(ptr)
    last = ptr[1:] - 1
    dense_pos = atoms.pad(pos)
    tokens = model._embed(types, pos, atoms)[0]
    x, token_pos = atoms.pad(tokens).roll(1, dims=1), dense_pos.roll(1, dims=1)  # the condition, then all but the last
    x[:, 0], token_pos[:, 0] = begin.to(x.dtype), 0
    accounts = model._accounts(atoms.pad(types, model.stop), dense_pos, atoms.size[1])
    _, z = model._think(atoms.unpad(x), atoms.unpad(token_pos), ptr, types, accounts, caches)
    memory = atoms.pad(z).roll(-1, dims=1)
    memory[torch.arange(last.numel(), device=pos.device), atoms.length - 1] = 0
    return Prefix(tokens[last], memory)
