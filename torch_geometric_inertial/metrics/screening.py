r"""Packs the molecules to be judged, and says of each whether it can be judged at all."""
from collections.abc import Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.pairs import close_pairs
from torch_geometric_inertial.data import molecules_of
from torch_geometric_inertial.elements import MIN_DISTANCE, SYMBOLS

Molecules: TypeAlias = Iterable[Data | None] | Data


class Screened(NamedTuple):
    r"""Packed molecules: ``z`` [T] (0 where it is no known element), ``pos`` [T, 3] (float64), ``ptr`` [B + 1];
    ``fit`` [T] says which atoms can be judged; ``status`` names, per *requested* molecule, what is wrong with it
    (``'ok'`` if nothing is). ``B`` counts the requested molecules: a missing one is there with no atoms.
    """
    z: Tensor
    pos: Tensor
    ptr: Tensor
    fit: Tensor
    status: list[str]


def screen(molecules: Molecules, elements: Sequence[int], num_requested: int | None = None) -> Screened:
    r"""Packs molecules and finds the failures that need no chemistry.

    In this order: ``'missing'`` (:obj:`None`, or fewer molecules than requested), ``'empty'``, ``'unfinished'``
    (``finished`` is false), ``'not_finite'``, ``'unknown_element'``, ``'coincident'`` (atoms nearer than 0.4 Å).

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

    status = [_first_look(i, data) for i, data in enumerate(items)]
    present = [data for data in items if data is not None]
    z = torch.cat([data.z.detach().cpu().reshape(-1) for data in present] or [torch.empty(0)]).long()
    pos = torch.cat([data.pos.detach().cpu().double() for data in present] or [torch.empty(0, 3).double()])
    sizes = torch.tensor([0 if data is None else data.z.numel() for data in items], dtype=torch.long)
    ptr = torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])

    known = torch.zeros(len(SYMBOLS), dtype=torch.bool)
    known[list(elements)] = True
    is_known = (z >= 0) & (z < len(SYMBOLS)) & known[z.clamp(0, len(SYMBOLS) - 1)]
    is_finite = pos.isfinite().all(-1)
    alone = torch.ones_like(is_finite)
    alone[close_pairs(pos, ptr, MIN_DISTANCE).ends.reshape(-1)] = False

    molecule = torch.repeat_interleave(torch.arange(num), sizes)
    for name, good in (('not_finite', is_finite), ('unknown_element', is_known), ('coincident', alone)):
        for i in molecule[~good].unique().tolist():
            status[i] = name if status[i] == 'ok' else status[i]
    return Screened(z.where(is_known, 0), pos, ptr, is_known & is_finite & alone, status)


def _first_look(i: int, data: Data | None) -> str:
    if data is None:
        return 'missing'
    z, pos = data.get('z'), data.get('pos')
    if z is None or pos is None:
        raise ValueError(f"molecule {i} needs atomic numbers 'z' and positions 'pos' (got {data})")
    if z.dim() != 1 or pos.shape != (z.numel(), 3):
        raise ValueError(f"molecule {i} needs 'z' [N] and 'pos' [N, 3] (got {list(z.shape)} and {list(pos.shape)})")
    if z.numel() == 0:
        return 'empty'
    finished = data.get('finished')
    return 'ok' if finished is None or bool(finished) else 'unfinished'
