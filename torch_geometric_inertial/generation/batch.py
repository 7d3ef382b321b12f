r"""The molecules that are being generated at a time, each with a length of its own."""
from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.draws import RandomNumbers
from torch_geometric_inertial.generation.poses import Poses
from torch_geometric_inertial.generation.requests import GenerationRequest
from torch_geometric_inertial.generation.scaffold import Scaffold

FIRST_SLOTS = 32  #: Atoms per molecule that memory is taken for at first.


@dataclass
class ActiveSequence:
    r"""A request in progress: its random numbers, its pose, and the slots of the scaffold's atoms so far."""
    request: GenerationRequest
    numbers: RandomNumbers
    pose: Poses | None
    fixed: list[int]


class DueAtoms(NamedTuple):
    r"""Atoms of scaffolds whose turn it is.

    Attributes:
        mask (Tensor): Whose next atom is one [R].
        pos (Tensor): Where it is, for those [R, 3].
    """
    mask: Tensor
    pos: Tensor


class GenerationBatch:
    r"""A batch of sequences. The first rows are in use; a row that is done makes room for the last, and new ones
    follow.

    With guidance each molecule has two branches, conditional and unconditional, that share atoms and differ in tokens:
    branch b of row r is number :obj:`r * branches + b` in :obj:`token` and the caches.

    Args:
        model (AtomModel): Whose molecules.
        capacity (int): Molecules at a time.
        max_atoms (int): Longest molecule.
        branches (int): 1, or 2 with guidance.

    Attributes:
        sequences (list): The :class:`ActiveSequence` in each row.
        count (Tensor): Atoms placed [R], on the CPU.
        waiting (Tensor): Atoms of the scaffold still to come [R], on the CPU.
        limit (Tensor): Where molecules are cut short [R], on the CPU.
        types (Tensor): Types of placed atoms [R, N]; the stop type where none is yet.
        pos (Tensor): Their positions [R, N, 3].
        slots (int): Atoms per molecule that there is memory for.
        token (Tensor): The last token, which no stack has seen yet [R * branches, C].
        token_pos (Tensor): Its position [R, 3].
        uniform (Tensor): Uniform numbers [R, N + 1].
        noise (Tensor): Normal numbers [R, N, 3].
        while_waiting (Tensor): Types that may be drawn while atoms of the scaffold wait [R, V].
        allowed (Tensor): Types that may be drawn from then on [R, V].
        queue_types (Tensor): Types of the atoms that wait [R, N], from the end.
        queue_pos (Tensor): Their positions [R, N, 3].
        caches (Caches): Of both stacks.
    """
    def __init__(self, model: AtomModel, capacity: int, max_atoms: int, branches: int):
        like, self.stop = model.radii, model.stop
        self.sequences: list[ActiveSequence] = []
        self.branches, self.max_atoms, self.slots = branches, max_atoms, min(max_atoms, FIRST_SLOTS)
        self.count, self.waiting, self.limit = (torch.zeros(capacity, dtype=torch.long) for _ in range(3))
        self.types = torch.full((capacity, max_atoms), self.stop, device=like.device)
        self.pos = like.new_zeros(capacity, max_atoms, 3)
        self.token = like.new_zeros(capacity * branches, model.channels)
        self.token_pos = like.new_zeros(capacity, 3)
        self.uniform = torch.zeros(capacity, max_atoms + 1, device=like.device, dtype=torch.float32)
        self.noise = like.new_zeros(capacity, max_atoms, 3)
        self.while_waiting, self.allowed = (like.new_zeros(capacity, self.stop + 1, dtype=torch.bool) for _ in range(2))
        self.queue_types = torch.zeros_like(self.types)
        self.queue_pos = torch.zeros_like(self.pos)
        self.caches = model.new_caches(capacity * branches, self.slots + 1)

    def __len__(self) -> int:
        return len(self.sequences)

    # Rows --------------------------------------------------------------------------------------------------------

    @property
    def width(self) -> int:
        r"""Slots up to the longest molecule, the next atom included."""
        return min(int(self.count[:len(self)].max()) + 1, self.max_atoms)

    def make_room(self, num_atoms: int) -> None:
        r"""Takes memory for molecules of so many atoms: few reach the longest that a model can write."""
        if num_atoms <= self.slots:
            return
        self.slots = min(self.max_atoms, max(num_atoms, 2 * self.slots))
        for cache in self.caches:
            cache.extend(self.slots + 1)

    def branch_rows(self, rows: Tensor) -> Tensor:
        r"""The rows of all branches of the molecules in :obj:`rows`."""
        return (rows.unsqueeze(1) * self.branches + torch.arange(self.branches, device=rows.device)).flatten()

    def enter(self, sequences: list[ActiveSequence], begin: Tensor) -> Tensor:
        r"""Appends molecules whose first token is :obj:`begin` [K * branches, C], and returns their rows."""
        first, device = len(self), self.types.device
        at = torch.arange(first, first + len(sequences))
        self.sequences += sequences
        self.count[at], self.waiting[at] = 0, 0
        self.limit[at] = torch.tensor([sequence.request.max_atoms for sequence in sequences])
        at = at.to(device)
        self.types[at], self.pos[at], self.token_pos[at] = self.stop, 0, 0
        self.uniform[at] = torch.stack([s.numbers.uniform[:self.max_atoms + 1] for s in sequences]).to(device)
        self.noise[at] = torch.stack([s.numbers.noise[:self.max_atoms] for s in sequences]).to(self.noise)
        self.while_waiting[at] = False
        everything = torch.ones(self.stop + 1, dtype=torch.bool)
        self.allowed[at] = torch.stack([everything if s.request.allowed is None else s.request.allowed
                                        for s in sequences]).to(device)
        branches = self.branch_rows(at)
        self.token[branches] = begin
        for cache in self.caches:
            cache.clear(branches)
        return at

    def begin_with_scaffold(self, r: int, elements: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        r"""Puts the first atoms of the scaffold of row :obj:`r` there and the others into its queue. Returns the types
        [P] and positions [P, 3] of the first."""
        sequence, device = self.sequences[r], self.types.device
        scaffold, pose = sequence.request.scaffold, sequence.pose
        assert isinstance(scaffold, Scaffold) and pose is not None
        first, perm = scaffold.num_prefix, pose.perm[0]
        rest = perm.numel() - first
        types, pos = scaffold.types[perm].to(device), pose.positions(scaffold.pos)[0].float().to(device)
        self.types[r, :first], self.pos[r, :first], self.token_pos[r] = types[:first], pos[:first], pos[first - 1]
        self.count[r], self.waiting[r] = first, rest
        self.queue_types[r, :rest], self.queue_pos[r, :rest] = types[first:].flip(0), pos[first:].flip(0)
        hydrogen = torch.tensor([*(z == 1 for z in elements), False], device=device)
        heavy = torch.tensor([*(z != 1 for z in elements), False], device=device)
        self.while_waiting[r] = self.allowed[r] & (hydrogen if scaffold.hydrogens == 'between' else heavy)
        sequence.fixed += range(first)
        return types[:first], pos[:first]

    def leave(self, rows: Tensor) -> Tensor:
        r"""Takes molecules out; the last ones move into their places. Returns where the molecule in each row was."""
        left = len(self) - rows.numel()
        gone = torch.zeros(len(self), dtype=torch.bool).index_fill_(0, rows.cpu(), True)
        hole = gone[:left].nonzero().flatten()
        source = left + (~gone[left:]).nonzero().flatten()
        for a, b in zip(hole.tolist(), source.tolist(), strict=True):
            self.sequences[a] = self.sequences[b]
        del self.sequences[left:]
        for x in (self.count, self.waiting, self.limit):
            x[hole] = x[source]
        order = torch.arange(left).index_copy_(0, hole, source).to(self.types.device)
        if hole.numel() > 0:
            hole, source = hole.to(order.device), source.to(order.device)
            for x in (self.types, self.pos, self.token_pos, self.uniform, self.noise, self.while_waiting, self.allowed,
                      self.queue_types, self.queue_pos):
                x[hole] = x[source]
            hole, source = self.branch_rows(hole), self.branch_rows(source)
            self.token[hole] = self.token[source]
            for cache in self.caches:
                cache.put(hole, cache, source)
        return order

    # One step ----------------------------------------------------------------------------------------------------

    def last_tokens(self) -> tuple[Tensor, Tensor, Tensor]:
        r"""The tokens that no stack has seen yet [R * branches, C], their positions [R * branches, 3] and offsets: one
        per row and branch. Tells the caches how long the longest row is."""
        rows = len(self) * self.branches
        for cache in self.caches:
            cache.geometry.used = int(self.count[:len(self)].max())
        return (self.token[:rows], self.token_pos[:len(self)].repeat_interleave(self.branches, dim=0),
                torch.arange(rows + 1, device=self.token.device))

    def allowed_types(self) -> Tensor:
        r"""Which types may be drawn next [R, V]: a molecule has an atom, and all atoms of its scaffold."""
        n, device = len(self), self.types.device
        allowed = self.allowed[:n].clone()
        waiting, count = self.waiting[:n], self.count[:n]
        if bool(waiting.any()):
            here = waiting.to(device)
            due = nn.functional.one_hot(self._due_types(), self.stop + 1).bool()
            no_room = (count + waiting >= self.limit[:n]).to(device).unsqueeze(1)
            allowed = torch.where((here > 0).unsqueeze(1), due | (self.while_waiting[:n] & ~no_room), allowed)
        allowed[:, self.stop] &= (count > 0).to(device)
        return allowed

    def due_atoms(self, types: Tensor) -> DueAtoms | None:
        r"""The atoms of scaffolds that were waiting for these types [R]; :obj:`None` if nobody waits."""
        n, device = len(self), self.types.device
        if not bool(self.waiting[:n].any()):
            return None
        waiting, row = self.waiting[:n].to(device), torch.arange(n, device=device)
        return DueAtoms((waiting > 0) & (types == self._due_types()),
                        self.queue_pos[row, (waiting - 1).clamp(min=0)])

    def _due_types(self) -> Tensor:
        r"""The type of the next atom of each scaffold [R], where one waits."""
        waiting = self.waiting[:len(self)].to(self.types.device)
        return self.queue_types[torch.arange(len(self), device=waiting.device), (waiting - 1).clamp(min=0)]

    def append(self, types: Tensor, pos: Tensor, token: Tensor, due: DueAtoms | None) -> None:
        r"""Adds an atom to each row: types [R], positions [R, 3], tokens [R, C]."""
        n = len(self)
        row, count = torch.arange(n, device=types.device), self.count[:n].to(types.device)
        self.types[row, count], self.pos[row, count], self.token_pos[:n] = types, pos, pos
        self.token[:n * self.branches] = token.repeat_interleave(self.branches, dim=0)
        if due is not None:
            mask = due.mask.cpu()
            for r in mask.nonzero().flatten().tolist():
                self.sequences[r].fixed.append(int(self.count[r]))
            self.waiting[:n] -= mask.long()
        self.count[:n] += 1

    def molecule(self, r: int, elements: Tensor, finished: bool) -> Data:
        r"""The molecule in a row. One with a scaffold is put into its coordinates, its atoms first and unmoved."""
        sequence, length = self.sequences[r], int(self.count[r])
        z, pos = elements[self.types[r, :length].cpu()], self.pos[r, :length].cpu()
        scaffold = sequence.request.scaffold
        if scaffold is None:
            return Data(z=z, pos=pos.clone(), finished=finished)
        assert isinstance(scaffold, Scaffold) and sequence.pose is not None
        new = torch.ones(length, dtype=torch.bool).index_fill_(0, torch.tensor(sequence.fixed), False)
        pos = torch.cat([scaffold.pos, sequence.pose.restore(scaffold.pos, pos[new])])
        return Data(z=torch.cat([scaffold.z, z[new]]), pos=pos, finished=finished,
                    fixed=torch.arange(length) < scaffold.z.numel())
