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


class PackedBonds:
    r"""The bonds of molecules back to back, each once, and the formal charges of their atoms.

    Args:
        index (Tensor): The two atoms of each bond, numbered within its molecule [2, E].
        order (Tensor): Bond orders [E]: 1, 2 or 3.
        ptr (Tensor): Offsets of the bonds [M + 1].
        charge (Tensor): Formal charges [T].

    Raises:
        ValueError: If the shapes do not match or an order is none of 1, 2, 3.
    """
    def __init__(self, index: Tensor, order: Tensor, ptr: Tensor, charge: Tensor):
        if index.dim() != 2 or index.size(0) != 2 or order.shape != index.shape[1:] or int(ptr[-1]) != order.numel():
            raise ValueError(f"expected bonds 'index' [2, E], 'order' [E] and 'ptr' [M + 1] ending in E (got "
                             f"{tuple(index.shape)}, {tuple(order.shape)}, {tuple(ptr.shape)})")
        if order.numel() and not 1 <= int(order.min()) <= int(order.max()) <= 3:
            raise ValueError(f'bond orders must be 1, 2 or 3, aromatic bonds kekulized (got {int(order.min())} … '
                             f'{int(order.max())})')
        self.index, self.order, self.ptr = index.to(torch.int16), order.to(torch.uint8), ptr.long()
        self.charge = charge.to(torch.int8)

    @classmethod
    def from_data(cls, items: list[Data]) -> PackedBonds:
        r"""Of molecules with :obj:`edge_index` [2, E], both directions, and :obj:`edge_attr` [E]."""
        index, order, charge, number = [], [], [], [0]
        for data in items:
            once = data.edge_index[0] < data.edge_index[1]
            index.append(data.edge_index[:, once])
            order.append(data.edge_attr.reshape(-1)[once])
            own = data.get('formal_charge')
            charge.append(torch.zeros(data.z.numel(), dtype=torch.long) if own is None else own.view(-1))
            number.append(int(once.sum()))
        return cls(torch.cat(index, dim=1), torch.cat(order), torch.tensor(number).cumsum(0), torch.cat(charge))

    def put(self, data: Data, molecule: Tensor, row: Tensor, ptr: Tensor) -> None:
        r"""Gives a batch of molecules [B] with atoms :obj:`row` [T] and offsets :obj:`ptr` [B + 1] their bonds."""
        bond, bond_ptr = packed_rows(self.ptr, molecule)
        u, v = self.index[:, bond].long() + torch.repeat_interleave(ptr[:-1], bond_ptr.diff())
        order = self.order[bond].long()
        data.edge_index = torch.stack([torch.cat([u, v]), torch.cat([v, u])])
        data.edge_attr, data.formal_charge = torch.cat([order, order]), self.charge[row].long()


class PackedMolecules:
    r"""Molecules back to back in memory.

    Args:
        z (Tensor): Atomic numbers [T], integer.
        pos (Tensor): Positions [T, 3] in Å.
        ptr (Tensor): Offsets [M + 1], int64.
        groups (Tensor, optional): Conditions [M, G], 0 or 1.
        properties (Tensor, optional): Conditions [M, P], real; NaN where a value is not known.
        bonds (PackedBonds, optional): Bonds and charges, for models that write them.

    Raises:
        ValueError: If the shapes do not match, the offsets descend, an atomic number is not one, a group is not 0 or 1,
            or a property is infinite.
    """
    def __init__(self, z: Tensor, pos: Tensor, ptr: Tensor, groups: Tensor | None = None,
                 properties: Tensor | None = None, bonds: PackedBonds | None = None):
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
        if bonds is not None and (bonds.ptr.numel() != ptr.numel() or bonds.charge.numel() != z.numel()):
            raise ValueError(f"'bonds' must be of the same {ptr.numel() - 1} molecules and {z.numel()} atoms (got "
                             f'{bonds.ptr.numel() - 1} and {bonds.charge.numel()})')
        self.z, self.pos, self.ptr = z.to(torch.uint8), pos.float(), ptr.long()
        self.groups, self.properties, self.bonds = groups, properties, bonds

    @classmethod
    def from_dataset(cls, dataset: Iterable[Data]) -> PackedMolecules:
        r"""Reads each molecule of a PyG data set once, transforms included; with its bonds if all molecules have
        :obj:`edge_index` and :obj:`edge_attr`.

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
        has_bonds = all(data.get('edge_index') is not None and data.get('edge_attr') is not None for data in items)
        return cls(torch.cat([data.z for data in items]), torch.cat([data.pos for data in items]),
                   torch.cat([length.new_zeros(1), length.cumsum(0)]), **conditions,
                   bonds=PackedBonds.from_data(items) if has_bonds else None)

    def __len__(self) -> int:
        return self.ptr.numel() - 1

    def subset(self, index: Tensor) -> PackedMolecules:
        r"""The molecules :obj:`index` [K], in that order."""
        data, bonds = self.batch(index), None
        if self.bonds is not None:
            bond, bond_ptr = packed_rows(self.bonds.ptr, index)
            bonds = PackedBonds(self.bonds.index[:, bond], self.bonds.order[bond], bond_ptr, data.formal_charge)
        return PackedMolecules(data.z, data.pos, data.ptr, data.get('groups'), data.get('properties'), bonds)

    def batch(self, index: Tensor) -> Data:
        r"""The molecules :obj:`index` [B] as one packed :class:`~torch_geometric.data.Data` with :obj:`ptr`."""
        row, ptr = packed_rows(self.ptr, index)
        data = Data(z=self.z[row].long(), pos=self.pos[row], ptr=ptr)
        if self.groups is not None:
            data.groups = self.groups[index]
        if self.properties is not None:
            data.properties = self.properties[index]
        if self.bonds is not None:
            self.bonds.put(data, index, row, ptr)
        return data

    def to_data_list(self) -> list[Data]:
        r"""Each molecule as a :class:`~torch_geometric.data.Data` of its own, with its bonds and charges where they are
        known."""
        items = []
        for i, (a, b) in enumerate(pairwise(self.ptr.tolist())):
            data = Data(z=self.z[a:b].long(), pos=self.pos[a:b])
            if self.bonds is not None:
                self.bonds.put(data, torch.tensor([i]), torch.arange(a, b), torch.tensor([0, b - a]))
            items.append(data)
        return items
