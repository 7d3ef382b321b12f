r"""Bond graphs atom by atom: one step draws a heavy atom and its bonds, of each molecule in the batch."""
from __future__ import annotations

import torch
from torch import Tensor, nn

from torch_geometric_inertial.generation.bond_model import BondModel, WrittenGraph
from torch_geometric_inertial.generation.bond_scaffold import BondScaffold
from torch_geometric_inertial.generation.draws import draw, guided
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.rows import Rows, join_rows, keep_rows
from torch_geometric_inertial.nn.bond_distances import FAR, grow_distances
from torch_geometric_inertial.nn.bond_head import MAX_ORDER, BondHead
from torch_geometric_inertial.nn.pair_biased_attention import PairCache

FIRST_SLOTS = 16  #: Heavy atoms per molecule that memory is taken for at first.
NEVER = -1e9


def graph_numbers(seed: int, index: int, max_atoms: int, max_closures: int) -> Tensor:
    r"""Uniform numbers of the graph of molecule :math:`i` [N + 1, 3 + 2 max_closures], a function of (seed, i): per
    atom one for the type, the parent and its order, and two for each ring."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 1) % 2**63)
    return torch.rand(max_atoms + 1, 3 + 2 * max_closures, generator=generator, dtype=torch.float32)


class GraphStepper:
    r"""The :class:`~torch_geometric_inertial.generation.engine.Stepper` of bond graphs.

    With guidance each molecule has two branches, conditional and unconditional, that share atoms and bonds and differ
    in vectors: branch b of row r is row :obj:`r * branches + b` of the network.

    Scaffolds have the order and types of :func:`~torch_geometric_inertial.generation.scaffold_types.settle_scaffolds`.

    Args:
        model (BondModel): The model, in evaluation mode.
        sampling (SamplingConfig): How types and bonds are drawn.
        seed (int): With the number of its request it settles a molecule.
    """
    def __init__(self, model: BondModel, sampling: SamplingConfig, seed: int):
        self.model, self.sampling, self.seed = model, sampling, seed
        self.branches = sampling.branches
        self.requests: list[GenerationRequest] = []
        self.state: Rows | None = None

    # New molecules -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def enter(self, requests: list[GenerationRequest]) -> None:
        model, graph, num = self.model, self.model.graph, len(requests)
        walked = torch.tensor([isinstance(r.scaffold, BondScaffold) for r in requests])
        begin = begin_tokens(model.graph_condition, requests, self.sampling)
        begin = graph.begin(begin, walked.repeat_interleave(self.branches).to(begin.device))
        slots = FIRST_SLOTS if self.state is None else self.state['types'].size(1)
        uniform = torch.stack([graph_numbers(self.seed, r.index, model.max_atoms, graph.bonds.max_closures)
                               for r in requests]).to(begin.device)
        limit = torch.tensor([r.max_atoms for r in requests], device=begin.device)
        state = dict(
            uniform=uniform,
            count=limit.new_zeros(num),  # heavy atoms so far
            total=limit.new_zeros(num),  # with their hydrogens
            limit=limit,
            types=limit.new_zeros(num, slots),
            order=limit.new_zeros(num, slots, slots),
            distance=limit.new_zeros(num, slots, slots),
            free=limit.new_zeros(num, slots),
            begin=begin.view(num, self.branches, -1),
            memory=begin.new_zeros(num, self.branches, slots, begin.size(-1)),
            **{f'{name}{i}': x.view(num, self.branches, *x.shape[1:])
               for i, cache in enumerate(graph.new_caches(num * self.branches, slots + 1, begin))
               for name, x in cache._asdict().items()})
        self.state = join_rows(self.state, state)
        self.requests += requests

    # One atom ------------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def step(self) -> dict[int, WrittenGraph]:
        self._make_room()
        state, sampling = self.state, self.sampling
        assert state is not None
        hidden = self._read_last_atom()
        count = state['count']
        row = torch.arange(count.numel(), device=count.device)
        uniform = state['uniform'][row, count]
        logits = guided(self._type_logits(hidden), sampling.guidance_scale, self.branches)
        types = draw(self._allowed_types(logits), uniform[:, 0], sampling.temperature, sampling.top_p)
        stop = types == self.model.graph.stop
        hydrogens = self.model.vocabulary.hydrogens[types.clamp(max=self.model.graph.stop - 1)]
        full = ~stop & (state['total'] + 1 + hydrogens > state['limit'])
        done = self._leave(stop, full)
        keep = ~(stop | full)
        if not bool(keep.any()):
            self.state = None
            return done
        if done:
            hidden = hidden.view(count.numel(), self.branches, -1)[keep].flatten(0, 1)
            types, uniform = types[keep], uniform[keep]
        new = self._draw_bonds(hidden, types, uniform)
        self._add(types, new)
        return done

    def _read_last_atom(self) -> Tensor:
        r"""Runs the token of the last atom (at first, the condition) through the network: [R * branches, C]."""
        state, graph, branches = self.state, self.model.graph, self.branches
        assert state is not None
        count = state['count']
        width = int(count.max())
        row, last = torch.arange(count.numel(), device=count.device), (count - 1).clamp(min=0)
        x, begin = state['begin'], (count == 0).view(-1, 1, 1)
        pair = x.new_zeros(count.numel(), 1 + width, graph.pair[-1].out_features)
        if width > 0:
            new = state['order'][row, last, :width] * (torch.arange(width, device=row.device) < last.unsqueeze(1))
            free, distance = state['free'][:, :width], state['distance'][row, last, :width]
            token = graph.tokens(state['types'][row, last], last, new, free)
            x = torch.where(begin, x, token.unsqueeze(1))
            pair = torch.where(begin, 0, graph.pairs(new, free, distance))
        mask = torch.arange(1 + width, device=row.device) <= count.unsqueeze(1)
        split = [t.repeat_interleave(branches, dim=0).unsqueeze(1) for t in (pair, mask)]
        caches = [PairCache(*(state[f'{name}{i}'].flatten(0, 1) for name in PairCache._fields))
                  for i in range(len(graph.blocks))]
        hidden = graph.run(x.flatten(0, 1).unsqueeze(1), *split, caches, count.repeat_interleave(branches)).squeeze(1)
        state['memory'][row, :, last] = graph.bond_norm(hidden).view(count.numel(), branches, -1)  # at first: unread
        return hidden

    def _type_logits(self, hidden: Tensor) -> Tensor:
        assert self.state is not None
        logits = self.model.graph.type_logits(hidden)
        first = (self.state['count'] == 0).repeat_interleave(self.branches).unsqueeze(1)
        return torch.where(first, self.model.graph.never_stop(logits), logits)

    def _allowed_types(self, logits: Tensor) -> Tensor:
        r"""Leaves out what a scaffold rules out, first atoms that are too large and, with :obj:`valence_mask`, what no
        valence is left for."""
        state, hydrogens = self.state, self.model.vocabulary.hydrogens
        assert state is not None
        stop, free, given = self.model.graph.stop, self.model.vocabulary.free, logits
        too_large = (1 + hydrogens > state['limit'].unsqueeze(1)) & (state['count'] == 0).unsqueeze(1)
        logits = logits.masked_fill(nn.functional.pad(too_large, (0, 1)), NEVER)
        if self.sampling.valence_mask:
            later = (state['count'] > 0).unsqueeze(1)
            open_ = (state['free'] > 0).any(dim=1, keepdim=True)
            forbidden = nn.functional.pad(later & (~open_ | (free < 1)), (0, 1))
            forbidden[:, stop:] = open_
            logits = logits.masked_fill(forbidden, NEVER)
        for r, request in enumerate(self.requests):
            if isinstance(request.scaffold, BondScaffold):
                room = int(state['limit'][r] - state['total'][r])
                allowed = request.scaffold.allowed_types(int(state['count'][r]), room, hydrogens.cpu())
                if allowed is not None:
                    logits[r] = given[r].masked_fill(~allowed.to(logits.device), NEVER)
        return logits

    def _draw_bonds(self, hidden: Tensor, types: Tensor, uniform: Tensor) -> Tensor:
        r"""Orders of the bonds of the new atoms to those before them [R, W]."""
        state, bonds, branches, sampling = self.state, self.model.graph.bonds, self.branches, self.sampling
        assert state is not None
        count = state['count']
        width = int(count.max())
        if width == 0:
            return count.new_zeros(count.numel(), 0)
        row, slot = torch.arange(count.numel(), device=count.device), torch.arange(width, device=count.device)
        earlier, free = slot < count.unsqueeze(1), state['free'][:, :width]
        memory = state['memory'][:, :, :width].flatten(0, 1)
        rows = torch.arange(memory.size(0), device=row.device)
        left = self.model.vocabulary.free[types]
        new = torch.zeros_like(free)

        def split(x: Tensor) -> Tensor:
            return x.repeat_interleave(branches, dim=0)

        def pick(logits: Tensor, column: int) -> Tensor:
            return draw(guided(logits, sampling.guidance_scale, branches), uniform[:, column], sampling.temperature)

        def open_to(allowed: Tensor) -> Tensor:
            if not sampling.valence_mask:
                return allowed
            possible = allowed & (free > new) & (left > 0).unsqueeze(1)
            return possible | (allowed & ~possible.any(dim=1, keepdim=True))

        def pick_order(logits: Tensor, partner: Tensor, column: int) -> Tensor:
            if sampling.valence_mask:
                most = torch.minimum(free[row, partner], left).clamp(min=1)
                too_high = torch.arange(1, MAX_ORDER + 1, device=row.device) > most.unsqueeze(1)
                logits = logits.masked_fill(split(too_high), NEVER)
            return pick(logits, column) + 1

        query = bonds.start(self.model.graph.bond_norm(hidden), split(types), split(left))
        logits = bonds.parent_logits(query, bonds.parent_key(memory), split(free), split(open_to(earlier)))
        parent = pick(logits, 1)
        has_parent = count > 0
        query, logits = bonds.attach(query, memory[rows, split(parent)], split(free[row, parent]))
        order = pick_order(logits, parent, 2)
        new[row, parent] = order * has_parent
        left = left - order
        query = bonds.take_order(query, split(order), split(left))

        distance = state['distance'][row, parent, :width]
        features, keys = BondHead.closure_features(split(free), split(distance)), bonds.closure_key(memory)
        active, last = has_parent, torch.full_like(parent, -1)
        for step in range(bonds.max_closures):
            # the parent is the last partner, so rings are closed to atoms before it
            allowed = earlier & (slot > last.unsqueeze(1)) & (slot < parent.unsqueeze(1))
            if sampling.valence_mask:
                allowed = allowed & (free > 0) & (left > 0).unsqueeze(1)
            partner = pick(bonds.closure_logits(query, step, keys, features, split(allowed)), 3 + 2 * step) - 1
            active = active & (partner >= 0)
            if not bool(active.any()):
                break
            partner = partner.clamp(min=0)
            closing, logits = bonds.close(query, memory[rows, split(partner)], split(free[row, partner]))
            order = pick_order(logits, partner, 4 + 2 * step)
            new[row, partner] = torch.where(active, order, new[row, partner])
            left = torch.where(active, left - order, left)
            query = torch.where(split(active).unsqueeze(1), bonds.take_order(closing, split(order), split(left)), query)
            last = torch.where(active, partner, last)
        return self._given_bonds(new)

    def _given_bonds(self, new: Tensor) -> Tensor:
        r"""The bonds of a scaffold's atoms to each other take the place of those that were drawn."""
        assert self.state is not None
        for r, request in enumerate(self.requests):
            at = int(self.state['count'][r])
            if isinstance(request.scaffold, BondScaffold) and at < request.scaffold.num_heavy:
                new[r] = 0
                new[r, :at] = request.scaffold.order[at, :at].to(new.device)
        return new

    def _add(self, types: Tensor, new: Tensor) -> None:
        state, vocabulary = self.state, self.model.vocabulary
        assert state is not None
        count, width = state['count'], new.size(1)
        row = torch.arange(count.numel(), device=count.device)
        state['types'][row, count] = types
        state['free'][:, :width] -= new
        state['free'][row, count] = vocabulary.free[types] - new.sum(dim=1)
        if width > 0:
            to_new, between = grow_ways(state['distance'][:, :width, :width], new, count)
            state['distance'][:, :width, :width] = between
            state['order'][row, count, :width] = new
            state['distance'][row, count, :width] = to_new
            for name, x in (('order', new), ('distance', to_new)):
                state[name][row.unsqueeze(1), torch.arange(width, device=row.device), count.unsqueeze(1)] = x
            state['distance'][row, count, count] = 0
        state['total'] += 1 + vocabulary.hydrogens[types]
        state['count'] += 1

    # Room, and molecules that are done ---------------------------------------------------------------------------

    def _make_room(self) -> None:
        state = self.state
        assert state is not None
        slots = state['types'].size(1)
        if int(state['count'].max()) < slots:
            return
        more = {name: x[:0] for name, x in state.items()}
        grown = min(2 * slots, self.model.max_atoms)
        for name in ('types', 'free'):
            more[name] = state[name].new_zeros(0, grown)
        for name in ('order', 'distance'):
            more[name] = state[name].new_zeros(0, grown, grown)
        memory = state['memory']
        more['memory'] = memory.new_zeros(0, memory.size(1), grown, memory.size(3))
        for name, x in state.items():
            if name.startswith(PairCache._fields):
                more[name] = x.new_zeros(0, x.size(1), x.size(2), grown + 1, x.size(4))
        self.state = join_rows(state, more)

    def _leave(self, stop: Tensor, full: Tensor) -> dict[int, WrittenGraph]:
        state = self.state
        assert state is not None
        gone = stop | full
        if not bool(gone.any()):
            return {}
        done = {}
        for r in gone.nonzero().flatten().tolist():
            request, size = self.requests[r], int(state['count'][r])
            done[request.index] = WrittenGraph(
                request.index, state['types'][r, :size].clone(), state['order'][r, :size, :size].clone(),
                bool(stop[r]), request)
        keep = (~gone).nonzero().flatten()
        self.state = keep_rows(state, keep)
        self.requests = [self.requests[r] for r in keep.tolist()]
        return done


def grow_ways(distance: Tensor, new: Tensor, count: Tensor) -> tuple[Tensor, Tensor]:
    r"""As :func:`~torch_geometric_inertial.nn.bond_distances.grow_distances`, of molecules of :obj:`count` [R] atoms
    each; there is no way to the others."""
    missing = torch.arange(distance.size(1), device=count.device) >= count.unsqueeze(1)
    itself = torch.eye(distance.size(1), dtype=torch.bool, device=count.device)
    distance = distance.masked_fill((missing.unsqueeze(1) | missing.unsqueeze(2)) & ~itself, FAR)
    return grow_distances(distance, new)


def begin_tokens(condition: nn.Module, requests: list[GenerationRequest], sampling: SamplingConfig) -> Tensor:
    r"""The vectors of the conditions [R * branches, C], conditional and unconditional in turn where both are mixed."""
    conditions = None
    if requests[0].conditions is not None and sampling.guidance_scale != 0:
        conditions = {name: torch.stack([r.conditions[name] for r in requests if r.conditions])
                      for name in requests[0].conditions}
    begin = condition(conditions, len(requests))
    if sampling.branches == 1:
        return begin
    return torch.stack([begin, condition(None, len(requests))], dim=1).flatten(0, 1)
