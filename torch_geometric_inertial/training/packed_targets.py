r"""A training set with targets as flat columns: what a predictor reads and what it should give."""
from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.training.packed import packed_rows


class PackedTargets:
    r"""Molecules back to back in memory, with any columns of numbers.

    Args:
        ptr (Tensor): Offsets [M + 1], int64.
        atom_columns (dict): By name, one row an atom [T, ...]; :obj:`z` and :obj:`pos` at least.
        molecule_columns (dict, optional): By name, one row a molecule [M, ...].

    Raises:
        ValueError: If :obj:`z` or :obj:`pos` is missing, the offsets descend, a column is of another length, or one
            holds a number that is not finite.

    Example:
        >>> data = PackedTargets.from_dataset(RevisedMD17(root, 'ethanol'), ['z', 'pos', 'force'], ['energy'])
        >>> batch = data.batch(torch.tensor([3, 7]))
        >>> energy, forces = model(batch.z, batch.pos, batch.batch)
    """
    def __init__(self, ptr: Tensor, atom_columns: dict[str, Tensor],
                 molecule_columns: dict[str, Tensor] | None = None):
        if ptr.dim() != 1 or ptr.numel() == 0 or int(ptr[0]) != 0 or bool((ptr.diff() < 0).any()):
            raise ValueError(f"'ptr' must start at 0 and not descend (got {ptr.tolist()[:8]} …)")
        self.ptr, self.atom_columns, self.molecule_columns = ptr.long(), dict(atom_columns), molecule_columns or {}
        missing = {'z', 'pos'} - self.atom_columns.keys()
        if missing:
            raise ValueError(f"'atom_columns' must hold 'z' and 'pos' (got {sorted(self.atom_columns)})")
        for columns, length, rows in ((self.atom_columns, int(ptr[-1]), 'an atom'),
                                      (self.molecule_columns, len(self), 'a molecule')):
            for name, column in columns.items():
                if column.dim() == 0 or column.size(0) != length:
                    raise ValueError(f"'{name}' must have a row {rows}, {length} (got {tuple(column.shape)})")
                for part in column.split(2**20):  # in parts: columns on disk may be larger than memory
                    if not bool(part.isfinite().all()):
                        raise ValueError(f"'{name}' must be finite (got {part[~part.isfinite()][0]})")

    @classmethod
    def from_dataset(cls, dataset: Iterable[Data], atom_columns: Sequence[str],
                     molecule_columns: Sequence[str] = ()) -> PackedTargets:
        r"""Reads each item of a PyG data set once, transforms included.

        Args:
            dataset: The items.
            atom_columns: Names of what has a row an atom, such as :obj:`['z', 'pos', 'force']`.
            molecule_columns: Names of what has one row an item, such as :obj:`['energy']`.

        Raises:
            ValueError: If there is no item, or one lacks a column or has another number of rows.
        """
        items = list(dataset)
        if not items:
            raise ValueError("'dataset' must hold at least one item (got none)")
        for i, data in enumerate(items):
            for name in (*atom_columns, *molecule_columns):
                if data.get(name) is None:
                    raise ValueError(f"item {i} lacks '{name}' (got {data})")
                rows = data.pos.size(0) if name in atom_columns else 1
                if data[name].dim() == 0 or data[name].size(0) != rows:
                    raise ValueError(f"'{name}' of item {i} must have {rows} rows (got {tuple(data[name].shape)})")
        length = torch.tensor([data.pos.size(0) for data in items])
        return cls(torch.cat([length.new_zeros(1), length.cumsum(0)]),
                   *({name: torch.cat([data[name] for data in items]) for name in names}
                     for names in (atom_columns, molecule_columns)))

    @property
    def z(self) -> Tensor:
        r"""Types of the atoms [T]."""
        return self.atom_columns['z']

    def __len__(self) -> int:
        return self.ptr.numel() - 1

    def subset(self, index: Tensor) -> PackedTargets:
        r"""The molecules :obj:`index` [K], in that order."""
        row, ptr = packed_rows(self.ptr, index)
        return PackedTargets(ptr, {name: column[row] for name, column in self.atom_columns.items()},
                             {name: column[index] for name, column in self.molecule_columns.items()})

    def split(self, *sizes: int, seed: int = 0) -> tuple[PackedTargets, ...]:
        r"""Disjoint parts of these numbers of molecules, drawn at random, and after them the rest.

        Raises:
            ValueError: If a size is negative, or their sum is more than there are molecules.
        """
        if min(sizes, default=0) < 0 or sum(sizes) > len(self):
            raise ValueError(f"'sizes' must not be negative, and their sum at most {len(self)} (got {sizes})")
        order = torch.randperm(len(self), generator=torch.Generator().manual_seed(seed))
        return tuple(self.subset(part) for part in order.split([*sizes, len(self) - sum(sizes)]))

    def batch(self, index: Tensor | None = None) -> Data:
        r"""The molecules :obj:`index` [B] (all, if not given) as one packed :class:`~torch_geometric.data.Data` with
        :obj:`ptr` and :obj:`batch`."""
        index = torch.arange(len(self)) if index is None else index
        row, ptr = packed_rows(self.ptr, index)
        return Data(**{name: column[row] for name, column in self.atom_columns.items()},
                    **{name: column[index] for name, column in self.molecule_columns.items()},
                    ptr=ptr, batch=torch.repeat_interleave(ptr.diff()))

    def __repr__(self) -> str:
        names = ', '.join((*self.atom_columns, *self.molecule_columns))
        return f'{type(self).__name__}({len(self)} molecules, {int(self.ptr[-1])} atoms: {names})'
