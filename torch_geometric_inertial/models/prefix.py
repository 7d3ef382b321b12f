r"""Reading the beginning of molecules into the caches, as if it had just been written."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.placement import find_parents, gather_slots

if TYPE_CHECKING:
    from torch_geometric_inertial.models.writing import AtomWriter
    from torch_geometric_inertial.models.writing_state import Caches


class Prefix(NamedTuple):
    r"""What has been read of B beginnings.

    Attributes:
        token (Tensor): The token of the last atom, which no stack has seen yet [B, C].
        memory (Tensor): Vectors of the atoms from the second stack [B, N, C]; zero for the last one.
    """
    token: Tensor
    memory: Tensor


def read_prefix(model: AtomWriter, types: Tensor, pos: Tensor, ptr: Tensor, begin: Tensor,
                caches: Caches) -> Prefix:
    r"""One teacher-forced pass through both stacks.

    Args:
        model (AtomWriter): The model.
        types (Tensor): Types of the atoms [T], packed; each molecule has at least one.
        pos (Tensor): Their positions [T, 3].
        ptr (Tensor): Offsets [B + 1].
        begin (Tensor): The token in slot 0 of each molecule [B, C].
        caches (dict): Empty ones of B rows, to be filled with all tokens but the last.
    """
    atoms = Packing(ptr)
    last = ptr[1:] - 1
    dense_types, dense_pos = atoms.pad(types, model.stop), atoms.pad(pos)
    radius = model.radii[dense_types]
    parent = find_parents(dense_pos, radius) if model.placement.has_parent else torch.zeros_like(dense_types)
    count = torch.arange(atoms.size[1], device=pos.device).expand(atoms.size)
    local = atoms.unpad(model.placement(dense_pos, radius, parent, count).to_local(dense_pos))
    flat_parent = atoms.unpad(parent)
    tokens = model.embedding(types, atoms.slot, pos, local, atoms.unpad(gather_slots(dense_types, parent)),
                             flat_parent)

    x, token_pos = atoms.pad(tokens).roll(1, dims=1), dense_pos.roll(1, dims=1)  # the condition, then all but the last
    x[:, 0], token_pos[:, 0] = begin.to(x.dtype), 0
    x, token_pos = atoms.unpad(x), atoms.unpad(token_pos)
    shared, layers = caches['type']
    h = model.type_stack(x, token_pos, ptr, model.type_geometry(token_pos, ptr, shared), layers)
    if model.valence is not None:
        accounts = model.valence(dense_pos, radius, dense_types, count)  # [B, N, N, W]
        h = h + model.valence.to_token(atoms.unpad(accounts.sum(dim=2)))
    shared, layers = caches['coord']
    z = atoms.pad(model.coord_stack(h + model.embedding.next_type(types) + model._skip(x), token_pos, ptr,
                                    model.coord_geometry(token_pos, ptr, shared), layers))
    memory = z.roll(-1, dims=1)
    memory[torch.arange(last.numel(), device=pos.device), atoms.length - 1] = 0
    return Prefix(tokens[last], memory)
