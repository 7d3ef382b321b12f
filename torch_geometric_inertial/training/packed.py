r"""A training set as flat columns, so that a batch is one indexing operation."""
from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.elements import SYMBOLS


def packed_rows(ptr: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    r"""The atoms of the molecules :obj:`index` [B] of a packed set with offsets :obj:`ptr` [M + 1], one molecule after
    the other [T], and the offsets of what is taken [B + 1]."""
    length = ptr[index + 1] - ptr[index]
    taken = torch.cat([length.new_zeros(1), length.cumsum(0)])
    return torch.repeat_interleave(ptr[index] - taken[:-1], length) + torch.arange(int(taken[-1])), taken


class PackedMolecules:
    r"""Molecules back to back in memory.

    Args:
        z (Tensor): Atomic numbers [T], integer.
        pos (Tensor): Positions [T, 3] in Å.
        ptr (Tensor): Offsets [M + 1], int64.
        groups (Tensor, optional): Conditions [M, G], 0 or 1.
        properties (Tensor, optional): Conditions [M, P], real; NaN where a value is not known.

    Raises:
        ValueError: If the shapes do not match, the offsets descend, an atomic number is not one, a group is not 0 or 1,
            or a property is infinite.
    """
    def __init__(self, z: Tensor, pos: Tensor, ptr: Tensor, groups: Tensor | None = None,
                 properties: Tensor | None = None):
        if pos.shape != (z.numel(), 3) or ptr.dim() != 1 or int(ptr[-1]) != z.numel():
            raise ValueError(f"expected 'z' [T], 'pos' [T, 3] and 'ptr' [M + 1] ending in T "
                             f"(got {tuple(z.shape)}, {tuple(pos.shape)}, {tuple(ptr.shape)})")
        if int(ptr[0]) != 0 or bool((ptr.diff() < 0).any()):
            raise ValueError(f"'ptr' must start at 0 and not descend (got {ptr.tolist()[:8]} …)")
        if z.numel() and not 1 <= int(z.min()) <= int(z.max()) < len(SYMBOLS):
            raise ValueError(f"'z' must be in 1 … {len(SYMBOLS) - 1} (got {int(z.min())} … {int(z.max())})")
        for name, rows in (('groups', groups), ('properties', properties)):
            if rows is not None and (rows.dim() != 2 or rows.size(0) != ptr.numel() - 1):
                raise ValueError(f"'{name}' must have a row a molecule, {ptr.numel() - 1} (got {tuple(rows.shape)})")
        if groups is not None and not bool(((groups == 0) | (groups == 1)).all()):
            raise ValueError(f"'groups' must be 0 or 1 (got {groups[(groups != 0) & (groups != 1)][0]})")
        if properties is not None and not properties.is_floating_point():
            raise ValueError(f"'properties' must be floating point (got {properties.dtype})")
        if properties is not None and bool(properties.isinf().any()):
            raise ValueError(f"'properties' must be finite, or NaN where not known (got one infinite at molecule "
                             f"{int(properties.isinf().any(dim=1).nonzero()[0])})")
        self.z, self.pos, self.ptr = z.to(torch.uint8), pos.float(), ptr.long()
        self.groups, self.properties = groups, properties

    @classmethod
    def from_dataset(cls, dataset: Iterable[Data]) -> PackedMolecules:
        r"""Reads each molecule of a PyG data set once, transforms included.

        Raises:
            ValueError: If there is no molecule, or one lacks :obj:`z` or :obj:`pos`, or conditions that others have.
        """
        items = list(dataset)
        for i, data in enumerate(items):
            if data.get('z') is None or data.get('pos') is None:
                raise ValueError(f"molecule {i} needs atomic numbers 'z' and positions 'pos' (got {data})")
        if not items:
            raise ValueError("'dataset' must hold at least one molecule (got none)")
        length = torch.tensor([data.z.numel() for data in items])
        conditions = {}
        for name in ('groups', 'properties'):
            if any(name in data for data in items):
                for i, data in enumerate(items):
                    if name not in data:
                        raise ValueError(f"molecule {i} lacks '{name}', which others have (got {data})")
                conditions[name] = torch.cat([data[name] for data in items])
        return cls(torch.cat([data.z for data in items]), torch.cat([data.pos for data in items]),
                   torch.cat([length.new_zeros(1), length.cumsum(0)]), **conditions)

    def __len__(self) -> int:
        return self.ptr.numel() - 1

    def subset(self, index: Tensor) -> PackedMolecules:
        r"""The molecules :obj:`index` [K], in that order."""
        data = self.batch(index)
        return PackedMolecules(data.z, data.pos, data.ptr, data.get('groups'), data.get('properties'))

    def batch(self, index: Tensor) -> Data:
        r"""The molecules :obj:`index` [B] as one packed :class:`~torch_geometric.data.Data` with :obj:`ptr`."""
        row, ptr = packed_rows(self.ptr, index)
        data = Data(z=self.z[row].long(), pos=self.pos[row], ptr=ptr)
        if self.groups is not None:
            data.groups = self.groups[index]
        if self.properties is not None:
            data.properties = self.properties[index]
        return data

    def to_data_list(self) -> list[Data]:
        r"""Each molecule as a :class:`~torch_geometric.data.Data` of its own."""
        return [Data(z=self.z[a:b].long(), pos=self.pos[a:b]) for a, b in pairwise(self.ptr.tolist())]
