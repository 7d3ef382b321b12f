r"""The molecules that are being written at a time, each with a length of its own."""
from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.models.fragment import Fragment, Poses
from torch_geometric_inertial.models.sampling import RandomNumbers
from torch_geometric_inertial.nn.geo_rope_geometry import GeoRoPEGeometry
from torch_geometric_inertial.nn.kv_cache import GeometryCache, KeyValueCache, extended
from torch_geometric_inertial.nn.transformer_block import CausalStack

if TYPE_CHECKING:
    from torch_geometric_inertial.models.writing import AtomWriter

FIRST_SLOTS = 32  #: Atoms a molecule that memory is taken for at first.
Caches = dict[str, tuple[GeometryCache, list[KeyValueCache]]]


@dataclass(frozen=True)
class Request:
    r"""One molecule that is asked for.

    Args:
        index (int): Its number; with the seed it settles all random numbers.
        max_atoms (int): Where it is cut short.
        wanted (dict, optional): Its conditions, by name, without a batch dimension.
        fragment (Fragment, optional): Atoms that it must contain.
        allowed (Tensor, optional): Which types may be drawn [V]; all if :obj:`None`.
    """
    index: int
    max_atoms: int
    wanted: dict[str, Tensor] | None = None
    fragment: Fragment | None = None
    allowed: Tensor | None = None


@dataclass
class Row:
    r"""A request while it is written: its random numbers, its pose, and the slots of the fragment's atoms so far."""
    request: Request
    numbers: RandomNumbers
    pose: Poses | None
    fixed: list[int]


class WritingState:
    r"""A batch of rows. The first ones are in use; a row that is done makes room for the last, and new ones follow.

    With guidance each molecule has two branches, conditional and unconditional, that share atoms and differ in tokens:
    branch b of row r is number :obj:`r * branches + b` in :obj:`token`, :obj:`memory` and the caches.

    Args:
        model (AtomWriter): Whose molecules.
        capacity (int): Molecules at a time.
        max_atoms (int): Longest molecule.
        branches (int): 1, or 2 with guidance.

    Attributes:
        rows (list): The :class:`Row` in each row.
        count (Tensor): Atoms placed [R], on the CPU.
        waiting (Tensor): Atoms of the fragment still to come [R], on the CPU.
        limit (Tensor): Where molecules are cut short [R], on the CPU.
        types (Tensor): Types of placed atoms [R, N]; the stop type where none is yet.
        pos (Tensor): Their positions [R, N, 3].
        slots (int): Atoms a molecule that there is memory for.
        memory (Tensor): Their vectors from the second stack [R * branches, slots, C].
        token (Tensor): The last token, which no stack has seen yet [R * branches, C].
        token_pos (Tensor): Its position [R, 3].
        chance (Tensor): Uniform numbers [R, N + 1, 2].
        noise (Tensor): Normal numbers [R, N, 3].
        during (Tensor): Types that may be drawn while atoms of the fragment wait [R, V].
        after (Tensor): Types that may be drawn from then on [R, V].
        queue_types (Tensor): Types of the atoms that wait [R, N], from the end.
        queue_pos (Tensor): Their positions [R, N, 3].
        caches (dict): Of both stacks: the geometry and one entry a layer.
    """
    def __init__(self, model: AtomWriter, capacity: int, max_atoms: int, branches: int):
        like, num_types = model.radii, model.stop + 1
        self.rows: list[Row] = []
        self.branches, self.max_atoms, self.slots = branches, max_atoms, min(max_atoms, FIRST_SLOTS)
        self.count, self.waiting, self.limit = (torch.zeros(capacity, dtype=torch.long) for _ in range(3))
        self.types = torch.full((capacity, max_atoms), model.stop, device=like.device)
        self.pos = like.new_zeros(capacity, max_atoms, 3)
        self.memory = like.new_zeros(capacity * branches, self.slots, model.channels)
        self.token = like.new_zeros(capacity * branches, model.channels)
        self.token_pos = like.new_zeros(capacity, 3)
        self.chance = like.new_zeros(capacity, max_atoms + 1, 2)
        self.noise = like.new_zeros(capacity, max_atoms, 3)
        self.during, self.after = (like.new_zeros(capacity, num_types, dtype=torch.bool) for _ in range(2))
        self.queue_types = torch.zeros_like(self.types)
        self.queue_pos = torch.zeros_like(self.pos)
        self.caches = new_caches(model, capacity * branches, self.slots + 1)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def width(self) -> int:
        r"""Slots up to the longest molecule, the next atom included."""
        return min(int(self.count[:len(self)].max()) + 1, self.max_atoms)

    def make_room(self, num_atoms: int) -> None:
        r"""Takes memory for molecules of so many atoms: few reach the longest that a model can write."""
        if num_atoms <= self.slots:
            return
        self.slots = min(self.max_atoms, max(num_atoms, 2 * self.slots))
        self.memory = extended(self.memory, self.slots)
        for shared, layers in self.caches.values():
            for cache in (shared, *layers):
                cache.extend(self.slots + 1)

    def branch_rows(self, rows: Tensor) -> Tensor:
        r"""The rows of all branches of the molecules in :obj:`rows`."""
        return (rows.unsqueeze(1) * self.branches + torch.arange(self.branches, device=rows.device)).flatten()

    def advance(self, stack: CausalStack, geometry: GeoRoPEGeometry, token: Tensor, name: str) -> Tensor:
        r"""One new token a row and branch through a stack."""
        shared, layers = self.caches[name]
        shared.used = int(self.count[:len(self)].max())
        pos = self.token_pos[:len(self)].repeat_interleave(self.branches, dim=0)
        ptr = torch.arange(token.size(0) + 1, device=token.device)
        return stack(token, pos, ptr, geometry(pos, ptr, shared), layers)

    def enter(self, rows: list[Row], begin: Tensor, stop: int) -> Tensor:
        r"""Appends molecules whose first token is :obj:`begin` [K * branches, C], and returns their rows."""
        first, device = len(self), self.types.device
        at = torch.arange(first, first + len(rows))
        self.rows += rows
        self.count[at], self.waiting[at] = 0, 0
        self.limit[at] = torch.tensor([row.request.max_atoms for row in rows])
        at = at.to(device)
        self.types[at], self.pos[at], self.token_pos[at] = stop, 0, 0
        self.chance[at] = torch.stack([row.numbers.chance[:self.max_atoms + 1] for row in rows]).to(device)
        self.noise[at] = torch.stack([row.numbers.noise[:self.max_atoms] for row in rows]).to(device)
        self.during[at] = False
        self.after[at] = torch.stack([torch.ones(stop + 1, dtype=torch.bool) if row.request.allowed is None
                                      else row.request.allowed for row in rows]).to(device)
        branches = self.branch_rows(at)
        self.token[branches], self.memory[branches] = begin, 0
        for shared, layers in self.caches.values():
            for cache in (shared, *layers):
                cache.clear(branches)
        return at

    def leave(self, rows: Tensor) -> Tensor:
        r"""Takes molecules out; the last ones move into their places. Returns where the molecule in each row was."""
        left = len(self) - rows.numel()
        gone = torch.zeros(len(self), dtype=torch.bool).index_fill_(0, rows.cpu(), True)
        hole = gone[:left].nonzero().flatten()
        source = left + (~gone[left:]).nonzero().flatten()
        for a, b in zip(hole.tolist(), source.tolist(), strict=True):
            self.rows[a] = self.rows[b]
        del self.rows[left:]
        for x in (self.count, self.waiting, self.limit):
            x[hole] = x[source]
        order = torch.arange(left).index_copy_(0, hole, source).to(self.types.device)
        if hole.numel() > 0:
            hole, source = hole.to(order.device), source.to(order.device)
            for x in (self.types, self.pos, self.token_pos, self.chance, self.noise, self.during, self.after,
                      self.queue_types, self.queue_pos):
                x[hole] = x[source]
            hole, source = self.branch_rows(hole), self.branch_rows(source)
            self.token[hole], self.memory[hole] = self.token[source], self.memory[source]
            for shared, layers in self.caches.values():
                shared.put(hole, shared, source)
                for cache in layers:
                    cache.put(hole, cache, source)
        return order

    def molecule(self, r: int, elements: Tensor, finished: bool) -> Data:
        r"""The molecule in a row. One with a fragment is put into its coordinates, its atoms first and unmoved."""
        row, length = self.rows[r], int(self.count[r])
        z, pos = elements[self.types[r, :length].cpu()], self.pos[r, :length].cpu()
        fragment = row.request.fragment
        if fragment is None:
            return Data(z=z, pos=pos.clone(), finished=finished)
        assert row.pose is not None
        new = torch.ones(length, dtype=torch.bool).index_fill_(0, torch.tensor(row.fixed), False).nonzero().flatten()
        pos = torch.cat([fragment.pos, row.pose.restore(fragment.pos, pos[new])])
        return Data(z=torch.cat([fragment.z, z[new]]), pos=pos, finished=finished,
                    fixed=torch.arange(length) < fragment.z.numel())


def new_caches(model: AtomWriter, num_rows: int, capacity: int) -> Caches:
    caches = {}
    for name, stack, geometry in (('type', model.type_stack, model.type_geometry),
                                  ('coord', model.coord_stack, model.coord_geometry)):
        shared = geometry.new_cache(num_rows, capacity, model.radii)
        caches[name] = (shared, stack.new_cache(num_rows, capacity, model.radii, shared))
    return caches
