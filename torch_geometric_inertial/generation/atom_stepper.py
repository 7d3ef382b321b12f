r"""Molecules atom by atom: one step draws an atom of each molecule in the batch."""
from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.batch import ActiveSequence, GenerationBatch
from torch_geometric_inertial.generation.draws import draw, guided, random_numbers
from torch_geometric_inertial.generation.engine import run
from torch_geometric_inertial.generation.poses import choose_poses
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.scaffold import Scaffold


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
        scaffolds = [r.scaffold if isinstance(r.scaffold, Scaffold) else None for r in requests]
        poses = choose_poses(model, scaffolds, conditions, numbers)
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
        batch.token[split] = model.prefill(torch.cat(types), torch.cat(pos), ptr, batch.token[split], caches)
        for cache, other in zip(batch.caches, caches, strict=True):
            cache.put(split, other, source)

    # One step ----------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> dict[int, Data]:
        r"""Draws one atom of each molecule; returns those that drew the stop instead, or are as long as they may be."""
        model, batch = self.model, self.batch
        batch.make_room(batch.width)
        x, pos, ptr = batch.last_tokens()
        h = model.type_states(x, pos, ptr, batch.caches.type)
        types = self._draw_types(h)

        finished, kept = self._take_out(types)
        if len(batch) == 0:
            return finished
        if kept is not None:
            types, h = types[kept], h[batch.branch_rows(kept)]

        x, pos, ptr = batch.last_tokens()
        self._place(types, model.place_states(h, x, types.repeat_interleave(batch.branches), pos, ptr,
                                              batch.caches.coord))
        return finished

    def _draw_types(self, h: Tensor) -> Tensor:
        batch, sampling, n = self.batch, self.sampling, len(self.batch)
        logits = guided(self.model.type_head(h).float(), sampling.guidance_scale, batch.branches)
        logits = logits.masked_fill(~batch.allowed_types(), -torch.inf)
        uniform = batch.uniform[torch.arange(n, device=h.device), batch.count[:n].to(h.device)]
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

    def _place(self, types: Tensor, cond: Tensor) -> None:
        r"""Draws the places of atoms [R], given the conditions of their density [R * branches, C]."""
        batch, n = self.batch, len(self.batch)
        due = batch.due_atoms(types)
        rows = torch.arange(n, device=cond.device) if due is None else (~due.mask).nonzero().flatten()
        pos = cond.new_zeros(n, 3) if due is None else due.pos.clone()
        if rows.numel() > 0:
            pos[rows] = self._draw_places(cond, rows)
        count = batch.count[:n].to(cond.device)
        batch.append(types, pos, self.model.embedding(types, count, pos), due)

    def _draw_places(self, cond: Tensor, rows: Tensor) -> Tensor:
        r"""The positions [T, 3] of the next atoms of molecules :obj:`rows` [T]."""
        batch, sampling, guidance = self.batch, self.sampling, None
        cond = cond[batch.branch_rows(rows)]
        if batch.branches == 2:
            guidance = (cond[1::2], None, sampling.guidance_scale)
            cond = cond[0::2]
        noise = sampling.place_temperature * batch.noise[rows, batch.count[:len(batch)].to(rows.device)[rows]]
        return self.model.head.sample(cond, noise, sampling.num_steps, sampling.solver, guidance=guidance)
