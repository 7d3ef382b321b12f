r"""The molecules of a PyG object: where each starts, and each by itself."""
from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.fields import field_levels

WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def ptr_of(data: Data) -> Tensor:
    r"""First atom of each molecule, and the number of atoms: int64 [B + 1], on the device of the atoms.

    Reads :obj:`ptr` [B + 1], else :obj:`batch` [N], else takes the object for one molecule. Where both are there, they
    must agree. A :class:`~torch_geometric.data.Batch` has one of them.

    Args:
        data (Data): A molecule, a :class:`~torch_geometric.data.Batch`, or a :class:`~torch_geometric.data.Data` with
            packed molecules: :obj:`pos` [N, 3] or :obj:`z` [N], and :obj:`ptr` or :obj:`batch` if there are several.

    Raises:
        ValueError: If the object is no :class:`~torch_geometric.data.Data` or has no atoms to count, :obj:`ptr` does
            not run from 0 to the number of atoms, :obj:`batch` does not number the molecules of the atoms in ascending
            order, or a batch was made of objects that held several molecules themselves.
    """
    if not isinstance(data, Data):
        raise ValueError(f"molecules are 'Data' or 'Batch' of PyG (got {type(data).__name__})")
    fields = [data.get(name) for name in ('pos', 'z')]
    atoms = next((field for field in fields if torch.is_tensor(field) and field.dim() > 0), None)
    if atoms is None:
        raise ValueError(f"molecules need 'pos' or 'z' (got {data})")
    count, ptr, batch = atoms.size(0), data.get('ptr'), data.get('batch')
    if ptr is None and batch is None:
        if isinstance(data, Batch):
            raise ValueError(f"a 'Batch' needs 'ptr' or 'batch' to tell its molecules apart (got {data})")
        return torch.tensor([0, count], device=atoms.device)
    _check_not_nested(data)
    if ptr is not None:
        _check_ptr(ptr, count)
        ptr = ptr.to(atoms.device).long()
    if batch is not None:
        _check_batch(batch, count)
        batch = batch.to(atoms.device)
        if ptr is None:
            least = getattr(data, '_num_graphs', 0) if isinstance(data, Batch) else 0
            return torch.cat([batch.new_zeros(1), torch.bincount(batch, minlength=least).cumsum(0)]).long()
        if not torch.equal(batch.long(), torch.repeat_interleave(ptr.diff())):
            raise ValueError(f"'batch' and 'ptr' must tell of the same molecules (got 'ptr' {ptr.tolist()[:8]} and "
                             f"'batch' {torch.bincount(batch).tolist()[:8]} atoms each)")
    return ptr


def check_edge_index(edges: Any, what: str) -> None:
    r"""Refuses edges that are no tensor of whole numbers [2, E]; :obj:`what` asks, for the message.

    Raises:
        ValueError: With what came.
    """
    if not (torch.is_tensor(edges) and edges.dim() == 2 and edges.size(0) == 2 and edges.dtype in WHOLE):
        raise ValueError(f"{what} needs 'edge_index' as a tensor of whole numbers [2, E] (got {_shape(edges)})")


def _shape(value: Any) -> str:
    return str(list(value.shape)) if torch.is_tensor(value) else type(value).__name__


def check_tensors(data: Data, what: str) -> None:
    r"""Refuses a molecule whose atoms or bonds are anything but tensors that fit each other.

    Args:
        data (Data): What it has of :obj:`z` [N], :obj:`pos` [N, 3], :obj:`edge_index` [2, E] and :obj:`edge_attr`
            [E, ...].
        what (str): Who asks, for the message.

    Raises:
        ValueError: With the field and what came.
    """
    z, pos, edges, attr = (data.get(name) for name in ('z', 'pos', 'edge_index', 'edge_attr'))
    if any(x is not None and not torch.is_tensor(x) for x in (z, pos)):
        raise ValueError(f"{what} needs tensors 'z' [N] and 'pos' [N, 3] (got {_shape(z)} and {_shape(pos)})")
    if z is not None and pos is not None and pos.dim() == 2 and z.shape != pos.shape[:1]:
        raise ValueError(f"'z' must hold one atomic number for each of the {pos.size(0)} positions "
                         f'(got shape {_shape(z)})')
    if edges is not None:
        check_edge_index(edges, what)
    if edges is not None and attr is not None and not (torch.is_tensor(attr) and attr.shape[:1] == edges.shape[1:]):
        raise ValueError(f"{what} needs 'edge_attr' as a tensor [{edges.size(1)}, ...] (got {_shape(attr)})")


def molecules_of(data: Data) -> list[Data]:
    r"""Each molecule of a PyG object by itself, whatever the object is: a molecule, a batch, or packed molecules.

    Fields of atoms, edges and atom numbers are taken apart by :func:`~torch_geometric_inertial.fields.field_levels`,
    further ones as :class:`~torch_geometric.data.Batch` noted them. Of packed molecules without a batch's notes, fields
    with one row per molecule are taken apart, and others, such as lists of rings, are left out.

    Raises:
        ValueError: As :func:`ptr_of`, or if an edge leaves its molecule.
    """
    ptr = ptr_of(data)
    num = ptr.numel() - 1
    if num == 0:
        return []
    if num == 1 and not isinstance(data, Batch):
        alone = copy.copy(data)
        for name in {'ptr', 'batch'} & set(data.keys()):
            del alone[name]
        return [alone]
    levels = field_levels(data, ptr, warn=False)
    starts = {'node': ptr.cpu()}
    if data.get('edge_index') is not None:
        data, starts['edge'] = _edges_by_molecule(data, ptr, [n for n, level in levels.items() if level == 'edge'])
    molecules = _as_collated(data, ptr)
    for name, value in data.to_dict().items():
        level = 'edge' if name == 'edge_index' else levels[name]
        if name in ('ptr', 'batch', 'num_nodes') or (level == 'index' and name in molecules[0]):
            continue
        for m in range(num):
            if level in starts:
                a, b = starts[level][m:m + 2].tolist()
                part = _rows(data, name, value, a, b, m)
                molecules[m][name] = part - ptr[m].to(part.device) if name == 'edge_index' else part
            elif level == 'graph' and name not in molecules[m] and torch.is_tensor(value) and value.shape[:1] == (num,):
                molecules[m][name] = value[m:m + 1]
    return molecules


def set_graph_level(data: Data, name: str, value: Tensor) -> None:
    r"""Sets a field with one row per molecule, so that :meth:`Batch.to_data_list` takes it apart again."""
    data[name] = value
    _note(data, name, torch.arange(value.size(0) + 1))


def set_node_level(data: Data, name: str, value: Tensor) -> None:
    r"""Sets a field with one row per atom, so that :meth:`Batch.to_data_list` takes it apart again."""
    data[name] = value
    _note(data, name, ptr_of(data).cpu())


def _note(data: Data, name: str, slices: Tensor) -> None:
    if isinstance(data, Batch) and getattr(data, '_slice_dict', None) is not None:
        data._slice_dict = {**data._slice_dict, name: slices}
        data._inc_dict = {**data._inc_dict, name: torch.zeros(len(slices) - 1, dtype=torch.long)}


def _check_ptr(ptr: Any, count: int) -> None:
    if not torch.is_tensor(ptr) or ptr.dim() != 1 or ptr.is_floating_point():
        got = f'{ptr.dtype} of shape {list(ptr.shape)}' if torch.is_tensor(ptr) else type(ptr).__name__
        raise ValueError(f"'ptr' must be a tensor of whole numbers [B + 1] (got {got})")
    if ptr.numel() < 1 or int(ptr[0]) != 0 or int(ptr[-1]) != count or bool((ptr.diff() < 0).any()):
        raise ValueError(f"'ptr' must ascend from 0 to the number of atoms, {count} (got {ptr.tolist()[:8]})")


def _check_batch(batch: Any, count: int) -> None:
    if not torch.is_tensor(batch) or batch.shape != (count,) or batch.is_floating_point() or batch.dtype == torch.bool:
        got = f'{batch.dtype} of shape {list(batch.shape)}' if torch.is_tensor(batch) else type(batch).__name__
        raise ValueError(f"'batch' must hold the molecule of each of the {count} atoms as a whole number (got {got})")
    if count and (int(batch[0]) < 0 or bool((batch.diff() < 0).any())):
        at = 0 if int(batch[0]) < 0 else int((batch.diff() < 0).nonzero()[0])
        raise ValueError(f"'batch' must ascend from 0: the atoms of a molecule stand together "
                         f'(got {batch[at:at + 2].tolist()} at atom {at})')


def _check_not_nested(data: Data) -> None:
    noted = (getattr(data, '_inc_dict', None) or {}).get('batch')
    if torch.is_tensor(noted) and noted.dim() == 1 and bool((noted.diff() != 1).any()):
        raise ValueError("a 'Batch' of batches does not tell its molecules apart: make it of single molecules, "
                         'batch.to_data_list()')


def check_edges(edges: Tensor, ptr: Tensor) -> Tensor:
    r"""The molecule of each edge [E], once it is sure that both its ends are atoms of that.

    Args:
        edges (Tensor): :obj:`edge_index` [2, E], numbers of packed atoms.
        ptr (Tensor): First atom of each molecule, and the number of atoms [B + 1].

    Raises:
        ValueError: If it has another shape or no whole numbers, or an edge leaves its molecule.
    """
    if edges.dim() != 2 or edges.size(0) != 2 or edges.is_floating_point():
        raise ValueError(f"'edge_index' must be a tensor of whole numbers [2, E] "
                         f'(got {edges.dtype} of shape {list(edges.shape)})')
    count = int(ptr[-1])
    if edges.numel() > 0 and (int(edges.min()) < 0 or int(edges.max()) >= count):
        raise ValueError(f"'edge_index' must connect atoms of the same molecule, with indices below {count} "
                         f'(got {int(edges.min())} to {int(edges.max())})')
    owner = torch.repeat_interleave(ptr.diff()).to(edges.device)[edges.long()]
    if not torch.equal(owner[0], owner[1]):
        e = int((owner[0] != owner[1]).nonzero()[0])
        raise ValueError(f"'edge_index' must connect atoms of the same molecule (got an edge between atoms "
                         f'{edges[:, e].tolist()} of molecules {owner[:, e].tolist()})')
    return owner[0]


def _edges_by_molecule(data: Data, ptr: Tensor, fields: list[str]) -> tuple[Data, Tensor]:
    r"""A copy with the edges of each molecule together, and where those of each start."""
    edges = data.edge_index
    owner = check_edges(edges, ptr)
    starts = torch.cat([ptr.new_zeros(1).cpu(), torch.bincount(owner, minlength=ptr.numel() - 1).cumsum(0).cpu()])
    if bool((owner.diff() < 0).any()):
        order = owner.argsort(stable=True)
        data = copy.copy(data)
        data.edge_index = edges[:, order]
        for name in fields:
            if torch.is_tensor(data[name]):
                data[name] = data[name].index_select(data.__cat_dim__(name, data[name]), order)
    return data, starts


def _as_collated(data: Data, ptr: Tensor) -> list[Data]:
    r"""The molecules as :class:`Batch` noted them, where its notes are about these atoms; else empty ones."""
    slices = getattr(data, '_slice_dict', None) or {}
    noted = next((slices[name] for name in ('pos', 'z') if name in slices), None)
    if not isinstance(data, Batch) or noted is None or not torch.equal(noted, ptr.cpu()):
        return [Data() for _ in range(ptr.numel() - 1)]
    whole = copy.copy(data)
    whole._num_graphs = ptr.numel() - 1
    whole._slice_dict = {name: part for name, part in slices.items() if name in data and _still(data, name, slices)}
    return whole.to_data_list()


def _still(data: Data, name: str, slices: dict[str, Any]) -> bool:
    r"""Whether a field has the size that it had when the batch was made."""
    value, noted = data[name], slices[name]
    if not torch.is_tensor(value) or not torch.is_tensor(noted) or noted.dim() != 1 or value.dim() == 0:
        return True
    dim = data.__cat_dim__(name, value)
    return value.size(dim if isinstance(dim, int) else 0) == int(noted[-1])


def _rows(data: Data, name: str, value: Any, a: int, b: int, molecule: int) -> Any:
    if torch.is_tensor(value):
        return value.narrow(data.__cat_dim__(name, value), a, b - a)
    if isinstance(value, np.ndarray):
        return value[a:b]
    nested = len(value) > 0 and isinstance(value[0], list | tuple)
    return value[molecule] if nested else value[a:b]
