r"""Molecules atom by atom: one step draws an atom of each molecule in the batch."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.batch import ActiveSequence, DueAtoms, GenerationBatch
from torch_geometric_inertial.generation.draws import draw, guided, random_numbers
from torch_geometric_inertial.generation.engine import run
from torch_geometric_inertial.generation.poses import choose_poses
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.nn.local_frame import LocalFrame, find_parents
from torch_geometric_inertial.nn.pair_field import NeighborContext


def generate_molecules(model: AtomModel, requests: Iterable[GenerationRequest], sampling: SamplingConfig, *,
                       seed: int = 0, batch_size: int | None = None, max_atoms: int | None = None) -> Iterator[Data]:
    r"""Answers requests, each with a number of its own, in their order. The model is in evaluation mode meanwhile.

    Args:
        model (AtomModel): The model.
        requests (iterable): Any number of them; they are taken when there is room.
        sampling (SamplingConfig): How atoms are drawn.
        seed (int): A molecule is a function of it and of the request. (default: :obj:`0`)
        batch_size (int, optional): Molecules at a time, halved when memory runs out. (default: :obj:`512`, on a GPU
            :obj:`2048`)
        max_atoms (int, optional): The longest of the requests. (default: the model's own)

    Returns:
        iterator: Of :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å) and :obj:`finished`,
        on the CPU.

    Raises:
        ValueError: If :obj:`batch_size` is below 1.
    """
    if batch_size is None:
        batch_size = 2048 if model.radii.device.type == 'cuda' else 512
    if batch_size < 1:
        raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
    limit = model.max_atoms if max_atoms is None else max_atoms
    return _generate(model, requests, sampling, seed, batch_size, limit)


def _generate(model: AtomModel, requests: Iterable[GenerationRequest], sampling: SamplingConfig, seed: int,
              batch_size: int, max_atoms: int) -> Iterator[Data]:
    was_training = model.training
    model.train(False)
    try:
        yield from run(requests, lambda capacity: AtomStepper(model, sampling, seed, capacity, max_atoms), batch_size)
    finally:
        model.train(was_training)


class AtomStepper:
    r"""The :class:`~torch_geometric_inertial.generation.engine.Stepper` of models that write atom by atom.

    Args:
        model (AtomModel): The model, in evaluation mode.
        sampling (SamplingConfig): How atoms are drawn.
        seed (int): With the number of its request it settles a molecule.
        capacity (int): Molecules at a time.
        max_atoms (int): The longest of them.
    """
    def __init__(self, model: AtomModel, sampling: SamplingConfig, seed: int, capacity: int, max_atoms: int):
        self.model, self.sampling, self.seed = model, sampling, seed
        self.batch = GenerationBatch(model, capacity, max_atoms, sampling.branches)

    # New molecules -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def enter(self, requests: list[GenerationRequest]) -> None:
        r"""Puts molecules into free rows; those with a scaffold begin with it."""
        model, batch = self.model, self.batch
        numbers = [random_numbers(self.seed, request.index, model.max_atoms) for request in requests]
        conditions = None
        if requests[0].conditions is not None and self.sampling.guidance_scale != 0:
            conditions = {name: torch.stack([request.conditions[name] for request in requests if request.conditions])
                          for name in requests[0].conditions}
        begin = model.condition(conditions, len(requests))
        poses = choose_poses(model, [request.scaffold for request in requests], conditions, numbers)
        sequences = [ActiveSequence(*row, []) for row in zip(requests, numbers, poses, strict=True)]
        if batch.branches == 2:
            begin = torch.stack([begin, model.condition(None, len(requests))], dim=1).flatten(0, 1)
        rows = batch.enter(sequences, begin)
        with_scaffold = [r for r, pose in zip(rows.tolist(), poses, strict=True) if pose is not None]
        if with_scaffold:
            self._begin_with_scaffolds(torch.tensor(with_scaffold, device=rows.device))

    def _begin_with_scaffolds(self, rows: Tensor) -> None:
        r"""Reads the first atoms of the scaffolds into the caches and lets the others wait."""
        model, batch, device = self.model, self.batch, self.model.radii.device
        types, pos, sizes = [], [], []
        for r in rows.tolist():
            first_types, first_pos = batch.begin_with_scaffold(r, model.elements)
            types += [first_types] * batch.branches
            pos += [first_pos] * batch.branches
            sizes += [first_types.numel()] * batch.branches
        batch.make_room(max(sizes))
        caches = model.new_caches(len(sizes), max(sizes))
        ptr = torch.tensor([0, *sizes]).cumsum(0).to(device)
        split, source = batch.branch_rows(rows), torch.arange(len(sizes), device=device)
        prefix = model.prefill(torch.cat(types), torch.cat(pos), ptr, batch.token[split], caches)
        batch.token[split], batch.memory[split, :max(sizes)] = prefix.token, prefix.memory
        for cache, other in zip(batch.caches, caches, strict=True):
            cache.put(split, other, source)

    # One step ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> dict[int, Data]:
        r"""Draws one atom of each molecule; returns those that drew the stop instead, or are as long as they may be."""
        model, batch = self.model, self.batch
        batch.make_room(batch.width)
        x, pos, ptr = batch.last_tokens()
        valence = self._valence_features()
        h = model.type_states(x, pos, ptr, None if valence is None else valence.sum(dim=(1, 2)), batch.caches.type)
        types = self._draw_types(h)

        finished, kept = self._take_out(types)
        if len(batch) == 0:
            return finished
        if kept is not None:
            split = batch.branch_rows(kept)
            types, h = types[kept], h[split]
            valence = None if valence is None else valence[split, :, :batch.width]

        x, pos, ptr = batch.last_tokens()
        z = model.place_states(h, x, types.repeat_interleave(batch.branches), pos, ptr, batch.caches.coord)
        self._place(types, z, valence)
        return finished

    def _valence_features(self) -> Tensor | None:
        r"""Of the placed atoms [R * branches, 1, N, W]."""
        batch, n = self.batch, len(self.batch)
        types, pos = batch.types[:n, :batch.width], batch.pos[:n, :batch.width]
        valence = self.model.valence_features(types, pos, batch.count[:n].to(pos.device).unsqueeze(1))
        return None if valence is None else valence.repeat_interleave(batch.branches, dim=0)

    def _draw_types(self, h: Tensor) -> Tensor:
        batch, sampling, n = self.batch, self.sampling, len(self.batch)
        logits = guided(self.model.type_head(h).float(), sampling.guidance_scale, batch.branches)
        logits = logits.masked_fill(~batch.allowed_types(), -torch.inf)
        uniform = batch.uniform[torch.arange(n, device=h.device), batch.count[:n].to(h.device), 0]
        return draw(logits, uniform, sampling.temperature, sampling.top_p)

    def _take_out(self, types: Tensor) -> tuple[dict[int, Data], Tensor | None]:
        r"""Takes out molecules that are done, by their number; and where the others were, if any is done."""
        batch, n = self.batch, len(self.batch)
        stopped = types.cpu() == self.model.stop
        gone = (stopped | (batch.count[:n] == batch.limit[:n])).nonzero().flatten()
        if gone.numel() == 0:
            return {}, None
        elements = torch.tensor(self.model.elements)
        finished = {batch.sequences[r].request.index: batch.molecule(r, elements, bool(stopped[r]))
                    for r in gone.tolist()}
        return finished, batch.leave(gone)

    def _place(self, types: Tensor, z: Tensor, valence: Tensor | None) -> None:
        r"""Draws the parent and the place of atoms [R], given the vectors that place them [R * branches, C]."""
        model, batch, n = self.model, self.batch, len(self.batch)
        count, row = batch.count[:n].to(z.device), torch.arange(n, device=z.device)
        seen_types, seen_pos = batch.types[:n, :batch.width], batch.pos[:n, :batch.width]
        counts = count.repeat_interleave(batch.branches)
        split = torch.arange(z.size(0), device=z.device)
        batch.memory[split, (counts - 1).clamp(min=0)] = z  # with no atom yet: what slot 0 holds is not looked at
        memory = batch.memory[:z.size(0), :batch.width]

        due = batch.due_atoms(types)
        parent = self._draw_parents(z, memory, counts, valence)
        if parent is None:
            parent = torch.zeros_like(row)
        elif due is not None:
            parent = torch.where(due.mask, self._nearest(types, due.pos), parent)
        frame = model.local_frame(seen_types, seen_pos, parent.unsqueeze(1), count.unsqueeze(1))
        frame = frame.map(lambda x: x.squeeze(1))
        local = self._draw_places(z, memory, seen_types, parent, count, frame, valence, due)
        pos = frame.to_global(local)
        if due is not None:
            pos = torch.where(due.mask.unsqueeze(1), due.pos, pos)
            local = frame.to_local(pos)
        parent_type = torch.where(count > 0, batch.types[row, parent], types)  # the first atom is in its own slot
        token = model.embedding(types, count, pos, local, parent_type, parent)
        batch.append(types, pos, token, due)

    def _draw_parents(self, z: Tensor, memory: Tensor, counts: Tensor, valence: Tensor | None) -> Tensor | None:
        r"""Slots [R]; :obj:`None` if atoms have no parents."""
        batch, sampling, n = self.batch, self.sampling, len(self.batch)
        logits = self.model.parent_logits(z.unsqueeze(1), memory, counts.unsqueeze(1), valence)
        if logits is None:
            return None
        uniform = batch.uniform[torch.arange(n, device=z.device), batch.count[:n].to(z.device), 1]
        return draw(guided(logits[:, 0], sampling.guidance_scale, batch.branches), uniform, sampling.temperature)

    def _nearest(self, types: Tensor, pos: Tensor) -> Tensor:
        r"""The parents [R] of atoms whose places [R, 3] are given, as in training."""
        batch, n = self.batch, len(self.batch)
        row, count = torch.arange(n, device=pos.device), batch.count[:n].to(pos.device)
        all_types, all_pos = batch.types[:n, :batch.width].clone(), batch.pos[:n, :batch.width].clone()
        all_types[row, count], all_pos[row, count] = types, pos
        return find_parents(all_pos, self.model.radii[all_types])[row, count]

    def _draw_places(self, z: Tensor, memory: Tensor, types: Tensor, parent: Tensor, count: Tensor, frame: LocalFrame,
                     valence: Tensor | None, due: DueAtoms | None) -> Tensor:
        r"""The local coordinates [R, 3] of the next atoms; zero where they are given."""
        model, batch, sampling, branches = self.model, self.batch, self.sampling, self.batch.branches
        rows = torch.arange(parent.numel(), device=z.device) if due is None else (~due.mask).nonzero().flatten()
        if rows.numel() == 0:
            return z.new_zeros(parent.numel(), 3)
        split = batch.branch_rows(rows)
        cond, neighbors = model.place_condition(
            z[split], memory, types.repeat_interleave(branches, dim=0), split,
            parent[rows].repeat_interleave(branches), count[rows].repeat_interleave(branches),
            frame.map(lambda x: x[rows].repeat_interleave(branches, dim=0)),
            None if valence is None else valence[split].squeeze(1))
        guidance = None
        if branches == 2:
            null = None if neighbors is None else NeighborContext(*(x[1::2] for x in neighbors))
            guidance = (cond[1::2], null, sampling.guidance_scale)
            cond = cond[0::2]
            neighbors = None if neighbors is None else NeighborContext(*(x[0::2] for x in neighbors))
        local = model.head.sample(cond, batch.noise[rows, count[rows]], sampling.num_steps, sampling.solver,
                                  neighbors=neighbors, guidance=guidance)
        return local if due is None else local.new_zeros(parent.numel(), 3).index_copy(0, rows, local)
