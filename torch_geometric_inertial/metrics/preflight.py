r"""Packs the molecules to be judged, and says of each whether it can be judged at all."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import longest_bonds
from torch_geometric_inertial.chem.pairs import AtomPairs, close_pairs
from torch_geometric_inertial.data import check_tensors, molecules_of
from torch_geometric_inertial.elements import MIN_DISTANCE, SYMBOLS

Molecules: TypeAlias = Iterable[Data | None] | Data

#: Pairs of atoms nearer than this (Å), or nearer than the longest bond of their elements, are found once for all who
#: ask.
NEAR = 1.7


class Screened(NamedTuple):
    r"""Packed molecules: ``z`` [T] (0 where it is no known element), ``pos`` [T, 3] (float64), ``ptr`` [B + 1];
    ``fit`` [T] says which atoms can be judged; ``status`` names, per *requested* molecule, what is wrong with it
    (``'ok'`` if nothing is); ``items`` are the molecules as they came; ``pairs`` those of their atoms that are nearer
    than :data:`NEAR` or a bond. ``B`` counts the requested molecules: a missing one is there with no atoms.
    """
    z: Tensor
    pos: Tensor
    ptr: Tensor
    fit: Tensor
    status: list[str]
    items: list[Data | None]
    pairs: AtomPairs


def screen(molecules: Molecules, elements: Sequence[int], num_requested: int | None = None) -> Screened:
    r"""Packs molecules and finds the failures that need no chemistry.

    In this order: ``'missing'`` (:obj:`None`, or fewer molecules than requested), ``'unreadable'`` (an exception in
    place of the molecule), ``'empty'``, ``'unfinished'`` (``finished`` is false), ``'not_finite'``,
    ``'unknown_element'``, ``'clash'`` (atoms nearer than 0.4 Å).

    Args:
        molecules: The molecules, :obj:`None` for a failed one.
        elements: Atomic numbers that may occur.
        num_requested: How many were asked for; by default as many as there are.

    Raises:
        ValueError: If a molecule lacks ``z`` or ``pos``, their shapes do not match, or there are more molecules than
            were requested.
    """
    items = molecules_of(molecules) if isinstance(molecules, Data) else list(molecules)
    num = len(items) if num_requested is None else num_requested
    if num < len(items):
        raise ValueError(f"'num_requested' must be at least the number of molecules, {len(items)} (got {num})")
    items += [None] * (num - len(items))
    status, numbers, places, lengths = [], [], [], []
    for i, data in enumerate(items):
        if isinstance(data, Data):
            name, z, pos = _first_look(i, data)
            numbers.append(z)
            places.append(pos)
            lengths.append(z.shape[0])
        else:
            name = 'missing' if data is None else 'unreadable'
            items[i] = None
            lengths.append(0)
        status.append(name)
    z, pos = _joined(numbers, (0, )).long(), _joined(places, (0, 3)).double()
    sizes = torch.tensor(lengths, dtype=torch.long)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])

    known = torch.zeros(len(SYMBOLS), dtype=torch.bool)
    known[list(elements)] = True
    is_known = (z >= 0) & (z < len(SYMBOLS)) & known[z.clamp(0, len(SYMBOLS) - 1)]
    is_finite = pos.isfinite().all(-1)
    pairs = close_pairs(pos, ptr, _near(z.where(is_known, 0)))
    alone = torch.ones_like(is_finite)
    alone[pairs.ends[:, pairs.distance < MIN_DISTANCE].reshape(-1)] = False

    molecule = torch.repeat_interleave(torch.arange(num), sizes)
    for name, good in (('not_finite', is_finite), ('unknown_element', is_known), ('clash', alone)):
        for i in molecule[~good].unique().tolist():
            status[i] = name if status[i] == 'ok' else status[i]
    return Screened(z.where(is_known, 0), pos, ptr, is_known & is_finite & alone, status, items, pairs)


def _joined(tensors: list[Tensor], empty: tuple[int, ...]) -> Tensor:
    if not tensors:
        return torch.empty(empty)
    if len({(x.dtype, x.device) for x in tensors}) > 1:
        tensors = [x.cpu().double() for x in tensors]
    return torch.cat(tensors).detach().cpu()


def _near(z: Tensor) -> float:
    r"""As far as :data:`NEAR`, and the longest bond that the tables have between these elements (Å)."""
    limit = longest_bonds()[0]
    present = torch.zeros(len(limit), dtype=torch.bool).index_fill_(0, z, True)
    return max(NEAR, float(limit[present][:, present].max()) / 100) if z.numel() else NEAR


def _first_look(i: int, data: Data) -> tuple[str, Tensor, Tensor]:
    fields = data.stores[0].to_dict()  # many times as fast as asking the object for each
    z, pos = fields.get('z'), fields.get('pos')
    if z is None or pos is None:
        raise ValueError(f"molecule {i} needs atomic numbers 'z' and positions 'pos' (got {data})")
    if not all(torch.is_tensor(fields.get(name, z)) for name in ('z', 'pos', 'edge_index', 'edge_attr')):
        check_tensors(data, f'molecule {i}')
    shape = z.shape
    if len(shape) != 1 or pos.shape != (shape[0], 3):
        raise ValueError(f"molecule {i} needs 'z' [N] and 'pos' [N, 3] (got {list(shape)} and {list(pos.shape)})")
    if shape[0] == 0:
        return 'empty', z, pos
    finished = fields.get('finished')
    return 'ok' if finished is None or bool(finished) else 'unfinished', z, pos
