r"""What the fields of a PyG object hold: one row per atom, one row per edge, numbers of atoms, or neither.

Neither its size nor a part of its name tells: a dipole of water has three rows, and a :obj:`mol_index` numbers no atom.
So a field is what a list says, or what PyG's :class:`~torch_geometric.data.Batch` noted when it put molecules of
different sizes together, or what the data class says itself (:meth:`__inc__`).
"""
from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import is_sparse

#: One row per atom; one row per edge; numbers of atoms; neither.
LEVELS = ('node', 'edge', 'index', 'graph')

_KNOWN = {
    'node': """z pos x node_attr node_type atomic_numbers symbols pos_relaxed relaxed conformers tags fixed mass masses
        charge charges formal_charge formal_charges partial_charge partial_charges isotope num_radical_electrons
        spin spins force forces vel velocity velocities momenta magmom magmoms perm""",
    'edge': """edge_attr edge_weight edge_type edge_offset edge_shift cell_offsets unit_shifts shifts bond_order
        bond_type""",
    'index': """edge_index face bond_index angle_index dihedral_index improper_index torsion_index ring_index""",
    'graph': """y groups properties finished dipole quadrupole polarizability energy stress virial cell pbc box center
        frame frame_margin name smiles title idx total_charge seed""",
}
#: The level of each field that this package and common data sets use. A listed field of another number of rows than
#: there are atoms (or edges) belongs to the molecule: :obj:`charge` [1] is its total charge.
FIELD_LEVELS: dict[str, str] = {name: level for level, names in _KNOWN.items() for name in names.split()}


def check_levels(fields: Mapping[str, str] | None) -> dict[str, str]:
    r"""The levels that a caller declares for fields of their own, name to one of :data:`LEVELS`.

    Raises:
        ValueError: If a level is unknown.
    """
    for name, level in (fields or {}).items():
        if level not in LEVELS:
            raise ValueError(f"'fields' must give each field one of {', '.join(map(repr, LEVELS))} "
                             f'(got {level!r} for {name!r})')
    return dict(fields or {})


def field_levels(data: Data, ptr: Tensor, fields: Mapping[str, str] | None = None, warn: bool = True) -> dict[str, str]:
    r"""The level of every field of a molecule or a batch of molecules, one of :data:`LEVELS`.

    In this order: what the caller declares; :data:`FIELD_LEVELS`, where the number of rows agrees; what
    :class:`~torch_geometric.data.Batch` noted (:obj:`_slice_dict`: as many rows as atoms, or as edges, in each of
    several molecules that differ in size; :obj:`_inc_dict`: raised by the atoms before it, though its name does not ask
    for it); :meth:`__inc__` of the data's own class. Everything else is :obj:`'graph'`.

    Args:
        data (Data): A molecule, or a batch of molecules.
        ptr (Tensor): First atom of each molecule, and the number of atoms [B + 1].
        fields (dict, optional): Name to level, for fields that this package does not know.
        warn (bool): Whether to warn of a field whose level is a guess: unlisted, yet with as many rows as there are
            atoms or edges, or whole numbers under a name with :obj:`index`.

    Raises:
        ValueError: If a declared field is missing rows, or numbers atoms without whole numbers.
    """
    fields = fields or {}
    edges = data.get('edge_index')
    num = {'node': int(ptr[-1]), 'edge': -1 if edges is None else edges.size(-1)}
    slices, incs = _noted(data)
    per_molecule = {'node': ptr.cpu(), 'edge': slices.get('edge_index')}
    differ = {level: s is not None and s.diff().unique().numel() > 1 for level, s in per_molecule.items()}
    own_inc = type(data).__inc__ is not Data.__inc__ and not slices

    def fits(name: str, value: Any, level: str) -> bool:
        starts = per_molecule[level]
        if name in slices and starts is not None and torch.is_tensor(value):
            return torch.equal(slices[name], starts)
        return num_rows(data, name, value) == num[level]

    def level_of(name: str, value: Any) -> str:
        if name in ('ptr', 'batch', 'num_nodes'):
            return 'graph'
        if name in fields:
            _check_declared(name, value, fields[name], num_rows(data, name, value), num)
            return fields[name]
        known = FIELD_LEVELS.get(name)
        if known == 'index':
            return 'index' if torch.is_tensor(value) and not is_sparse(value) else 'graph'
        if known is not None:
            return known if known == 'graph' or fits(name, value, known) else 'graph'
        for level in ('node', 'edge'):
            if differ[level] and torch.is_tensor(value) and name in slices and fits(name, value, level):
                return level
        by_name = 'index' in name or 'batch' in name
        if _is_whole(value) and not by_name:
            if len(ptr) > 2 and isinstance(incs.get(name), Tensor) and torch.equal(incs[name].cpu(), ptr[:-1].cpu()):
                return 'index'
            if own_inc and _adds(data, name, value, num['node']):
                return 'index'
        if warn and not _is_follow_batch(name):
            _warn(name, value, fits, num)
        return 'graph'

    return {name: level_of(name, value) for name, value in data.to_dict().items()}


def num_rows(data: Data, name: str, value: Any) -> int:
    r"""Rows of a field along the dimension in which PyG joins molecules; -1 if it is not of rows."""
    if torch.is_tensor(value) and not is_sparse(value):
        dim = data.__cat_dim__(name, value)
        return -1 if not isinstance(dim, int) or value.dim() == 0 else value.size(dim)
    if isinstance(value, np.ndarray):
        return -1 if value.ndim == 0 else len(value)
    if isinstance(value, list | tuple):
        rows = [len(v) if isinstance(v, list | tuple) else -1 for v in value]
        return sum(rows) if rows and min(rows) >= 0 and hasattr(data, '_slice_dict') else len(value)
    return -1


def _noted(data: Data) -> tuple[dict[str, Tensor], dict[str, Any]]:
    r"""Slices and increments that PyG noted, of the fields that still have the size that they had then."""
    slices = getattr(data, '_slice_dict', None) or {}
    good = {name: s for name, s in slices.items() if name in data and isinstance(s, Tensor) and s.dim() == 1
            and (not torch.is_tensor(data[name]) or num_rows(data, name, data[name]) == int(s[-1]))}
    incs = getattr(data, '_inc_dict', None) or {}
    return good, {name: incs.get(name) for name in good}


def _is_whole(value: Any) -> bool:
    return torch.is_tensor(value) and not is_sparse(value) and not (
        value.is_floating_point() or value.is_complex() or value.dtype == torch.bool)


def _adds(data: Data, name: str, value: Tensor, count: int) -> bool:
    r"""Whether the data's own class raises this field by the number of atoms when it is put into a batch."""
    inc = data.__inc__(name, value)
    return count > 1 and bool(torch.as_tensor(inc == count).all())


def _is_follow_batch(name: str) -> bool:
    return name.endswith(('_batch', '_ptr'))


def _check_declared(name: str, value: Any, level: str, rows: int, num: dict[str, int]) -> None:
    if level in num and rows != num[level]:
        what = 'atoms' if level == 'node' else 'edges'
        raise ValueError(f"'{name}' is declared to have one row per {what[:-1]} (got {rows} rows and "
                         f'{max(num[level], 0)} {what})')
    if level == 'index' and not _is_whole(value):
        raise ValueError(f"'{name}' is declared to number atoms, so it must be a tensor of whole numbers "
                         f'(got {value.dtype if torch.is_tensor(value) else type(value).__name__})')


def _warn(name: str, value: Any, fits: Callable[[str, Any, str], bool], num: dict[str, int]) -> None:
    guess = None
    if _is_whole(value) and 'index' in name and num['node'] > 1 and bool((value >= 0).any()):
        guess = 'index'
    else:
        guess = next((level for level in ('node', 'edge') if num[level] > 1 and fits(name, value, level)), None)
    if guess is not None:
        what = {'index': 'numbers atoms', 'node': 'has one row per atom', 'edge': 'has one row per edge'}[guess]
        warnings.warn(f"'{name}' stays as it is, for nothing tells what it holds. If it {what}, pass "
                      f"fields={{'{name}': '{guess}'}}; if it does not, fields={{'{name}': 'graph'}}", stacklevel=5)
