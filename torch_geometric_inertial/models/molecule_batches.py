r"""Molecules in whatever form a user has them, as the batches and arguments that a predictor reads."""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.data import ptr_of
from torch_geometric_inertial.models.predictor_config import PredictorConfig


def batches(data: Data | Iterable[Data], batch_size: int) -> Iterator[Data]:
    r"""Packed batches: those that there are, or made of single molecules.

    Args:
        data: One :class:`~torch_geometric.data.Data` or :class:`~torch_geometric.data.Batch`; many, such as a list or a
            data set; a loader of batches; or packed data with :meth:`batch`.
        batch_size: Molecules at a time, where they do not come in batches.

    Raises:
        ValueError: If :obj:`batch_size` is less than one, or an item has no :obj:`z` or :obj:`pos`, or no atoms.
    """
    if batch_size < 1:
        raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
    pick: Any = None if isinstance(data, Data) else getattr(data, 'batch', None)
    if callable(pick):  # packed: any molecules, by their indices
        for index in torch.arange(len(data)).split(batch_size):  # type: ignore[arg-type]
            yield pick(index)
        return
    if not isinstance(data, Iterable):
        raise ValueError(f"'data' must be a Data or several (got {type(data).__name__}); chem.as_data makes one of an "
                         'RDKit molecule, ASE atoms or a SMILES')
    waiting: list[Data] = []
    for i, item in enumerate([data] if isinstance(data, Data) else data):
        if not isinstance(item, Data) or item.get('z') is None or item.get('pos') is None:
            raise ValueError(f"item {i} of 'data' must be a Data with 'z' and 'pos' (got {item!r:.80})")
        if item.z.numel() == 0:
            raise ValueError(f"item {i} of 'data' must have at least one atom (got none)")
        is_batch = item.get('batch') is not None or item.get('ptr') is not None
        if waiting and (is_batch or len(waiting) == batch_size):
            yield collate(waiting)
            waiting = []
        if is_batch:
            yield item
        else:
            waiting.append(item)
    if waiting:
        yield collate(waiting)


def collate(items: list[Data]) -> Data:
    r"""Molecules as one batch of what predictors read; those without a cell have no period."""
    length = torch.tensor([item.z.numel() for item in items])
    out = Data(batch=torch.repeat_interleave(length), ptr=torch.cat([length.new_zeros(1), length.cumsum(0)]))
    for name in ('z', 'pos', 'vel', 'tags'):
        found = [item.get(name) for item in items]
        if all(x is not None for x in found):
            out[name] = torch.cat(found)
    for name in ('charge', 'spin'):
        found = [item.get(name) for item in items]
        if all(x is not None and torch.as_tensor(x).numel() == 1 for x in found):
            out[name] = torch.cat([torch.as_tensor(x).view(1) for x in found])
    if any(item.get('cell') is not None for item in items):
        for name, none in _no_lattice(1, out.pos).items():
            rows = [none if item.get(name) is None else torch.as_tensor(item[name]).view(none.shape) for item in items]
            out[name] = torch.cat([row.to(none.dtype) for row in rows])
    return out


def arguments(batch: Data, config: PredictorConfig, like: Tensor, lattice: bool = False) -> dict[str, Any]:
    r"""Those arguments of :meth:`AtomPredictor.forward` that the batch has and the model reads.

    Args:
        batch: The molecules.
        config: What the model reads.
        like: A weight of the model: its device, and the type of floating point numbers.
        lattice: Whether to give a cell even if there is none.
    """
    names = ['z', 'pos', 'cell', 'pbc', *(name for name, known in config.known_totals.items() if known)]
    names += ['vel'] * (config.velocity != 'none') + ['tags'] * (config.num_tags > 0)
    given = {name: batch[name] for name in names if batch.get(name) is not None}
    out = {name: x.to(like.device, like.dtype) if x.is_floating_point() and name != 'z' else x.to(like.device)
           for name, x in given.items()}
    ptr = ptr_of(batch).to(like.device)
    out['batch'], size = torch.repeat_interleave(ptr.diff()), ptr.numel() - 1
    if 'cell' in out:
        out['cell'] = out['cell'].view(-1, 3, 3)
    return (_no_lattice(size, like) if lattice else {}) | out | dict(batch_size=size)


def _no_lattice(size: int, like: Tensor) -> dict[str, Tensor]:
    return dict(cell=like.new_zeros(size, 3, 3), pbc=torch.zeros(size, 3, dtype=torch.bool, device=like.device))
