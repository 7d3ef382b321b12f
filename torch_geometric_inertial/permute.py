r"""Another order of the atoms of a PyG object, with all that belongs to them."""
from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data
from torch_geometric.utils import is_sparse

from torch_geometric_inertial.fields import field_levels


def permute_atoms(data: Data, perm: Tensor, ptr: Tensor, fields: Mapping[str, str] | None = None,
                  warn: bool = True) -> Data:
    r"""Puts the atoms of each molecule into another order, in place: fields with one row per atom follow, edges are
    renumbered and sorted with their fields, and other numbers of atoms are renumbered, -1 staying -1.

    Args:
        data (Data): A molecule, or a batch of molecules.
        perm (Tensor): Which atom of the batch comes to each place [N], within its molecule.
        ptr (Tensor): First atom of each molecule, and the number of atoms [B + 1].
        fields (dict, optional): What fields that this package does not know hold
            (:func:`~torch_geometric_inertial.fields.field_levels`).
        warn (bool): Whether to warn of a field that stays as it is though it might have followed.

    Raises:
        ValueError: If a declared field does not fit, a field numbers an atom that is not there, or connectivity is
            stored as a sparse matrix.
    """
    place = torch.empty_like(perm)
    place[perm] = torch.arange(len(perm), device=perm.device)
    levels = field_levels(data, ptr, fields, warn)
    local = perm - torch.repeat_interleave(ptr[:-1], ptr.diff())
    rows, starts = {'node': perm}, {'node': ptr}
    if data.get('edge_index') is not None:
        row, col = place[data.edge_index.long()]
        rows['edge'] = (row * len(perm) + col).argsort(stable=True)
    for name, value in list(data.to_dict().items()):
        if torch.is_tensor(value) and is_sparse(value) and len(perm) in value.shape:
            raise ValueError(f"'{name}' holds the atoms in a sparse matrix, whose rows do not follow: "
                             f"apply 'ToSparseTensor' after the atoms are in order (got {list(value.shape)})")
        if levels[name] == 'index':
            value = _renumber(data, name, value, place, ptr)
            data[name] = value[:, rows['edge']] if name == 'edge_index' else value
        elif levels[name] in rows:
            level = levels[name]
            nested = isinstance(data, Batch) and isinstance(value, list) and len(value) == ptr.numel() - 1 and all(
                isinstance(part, list | tuple) for part in value)
            if nested and level in starts:
                parts = local.split(ptr.diff().tolist())
                data[name] = [_take(part, order, 0) for part, order in zip(value, parts, strict=True)]
            elif not nested:
                data[name] = _take(value, rows[level], data.__cat_dim__(name, value))
    return data


def _renumber(data: Data, name: str, value: Tensor, place: Tensor, ptr: Tensor) -> Tensor:
    r"""New numbers of the same atoms. Where PyG put molecules together, each number was raised by what it noted."""
    place, ptr = place.to(value.device), ptr.to(value.device)
    lowest, highest, raised = ptr.new_zeros(()), ptr[-1], ptr.new_zeros(())
    slices, incs = (getattr(data, noted, None) or {} for noted in ('_slice_dict', '_inc_dict'))
    noted, inc = slices.get(name), incs.get(name)
    if (name != 'edge_index' and value.dim() > 0 and torch.is_tensor(noted) and torch.is_tensor(inc) and inc.dim() == 1
            and int(noted[-1]) == value.size(data.__cat_dim__(name, value))):
        owner = torch.repeat_interleave(noted.diff()).to(value.device)
        if data.__cat_dim__(name, value) == 0:
            owner = owner.view(-1, *[1] * (value.dim() - 1))
        lowest, highest, raised = ptr[:-1][owner], ptr[1:][owner], inc.to(ptr)[owner]
    number = value.long() - raised  # of the atom in its molecule
    padding = (number == -1) & (name != 'edge_index')
    number = number + lowest
    wrong = ((number < lowest) | (number >= highest)) & ~padding
    if bool(wrong.any()):
        first = int((number - lowest)[wrong][0])
        raise ValueError(f"'{name}' must number atoms of its molecule from 0, or be -1 where there is none "
                         f'(got {first})')
    new = place[torch.where(padding, 0, number)] - lowest + raised
    return torch.where(padding, value.long(), new).to(value.dtype)


def _take(value, rows: Tensor, dim: int):
    if torch.is_tensor(value):
        return value.index_select(dim, rows.to(value.device))
    if isinstance(value, np.ndarray):
        return value[rows.cpu().numpy()]
    return type(value)(value[i] for i in rows.tolist())
