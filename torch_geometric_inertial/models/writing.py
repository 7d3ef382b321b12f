r"""Writing molecules atom by atom, many at a time, each with a length of its own."""
from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.models.fragment import Fragment, Poses, propose_poses
from torch_geometric_inertial.models.prefix import read_prefix
from torch_geometric_inertial.models.prefix_likelihood import prefix_log_prob
from torch_geometric_inertial.models.sampling import RandomNumbers, Sampling, draw, random_numbers
from torch_geometric_inertial.models.writing_state import Request, Row, WritingState, new_caches
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS
from torch_geometric_inertial.nn.pair_field import Pairs
from torch_geometric_inertial.nn.placement import Neighbourhood, find_parents

MIN_DISTANCE = 0.4  #: Å; atoms of a fragment that are nearer are one atom written twice.
#: Where an order has the hydrogens. A model of random orders begins with any part of a molecule.
HYDROGENS = {'heavy_first': 'last', 'file': 'last', 'smiles': 'between', 'random': 'anywhere', 'traverse': 'anywhere'}
_PREFIX_TOKENS = 1 << 14  # tokens of candidate prefixes that are read at a time


class AtomWriter(nn.Module):
    r"""The writing half of :class:`~torch_geometric_inertial.models.autoregressor.AtomAutoregressor`, whose modules it
    uses."""
    elements: tuple[int, ...]
    max_atoms: int
    channels: int
    radii: Tensor
    vocabulary: Tensor
    config: Any
    valence: Any
    pair_keys: Any

    @property
    def stop(self) -> int:
        r"""The type that ends a molecule."""
        return len(self.elements)

    def generate(self, num_samples: int, *, progress: bool = False, **settings) -> list[Data]:
        r"""Writes molecules. Molecule :obj:`i` is a function of :obj:`(seed, i)`, whatever the batch size, up to the
        rounding of float32 matrix products, which the flow amplifies: with the weights of the package positions of most
        molecules agree to 1e-3 Å, of nearly all to 2e-2 Å, and seldom a draw on the edge falls to the other side.

        Args:
            num_samples (int): Number of molecules.
            progress (bool): Whether to show a progress bar.
            **settings: Of :meth:`stream`.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å) and :obj:`finished`.

        Raises:
            ValueError: On arguments out of range.
        """
        molecules = self.stream(num_samples, **settings)
        return list(tqdm(molecules, total=num_samples, unit='mol', disable=not progress))

    def stream(self, num_samples: int, *, groups: Tensor | list[str] | None = None, properties: dict | None = None,
               guidance_scale: float = 1.0, temperature: float = 1.0, top_p: float = 1.0,
               num_steps: int | None = None, solver: str = 'dpmpp', seed: int = 0, batch_size: int | None = None,
               max_atoms: int | None = None, shard: tuple[int, int] = (0, 1)) -> Iterator[Data]:
        r"""The molecules of :meth:`generate` one by one, in order; only those being written are in memory.

        Args:
            num_samples (int): Number of molecules of all shards together.
            groups (Tensor or list, optional): Wanted groups, 0/1, [G] for all or [num_samples, G], or their names;
                unconditional if :obj:`None`.
            properties (dict, optional): Wanted values by name, a number for all or [num_samples]; outside the range of
                the training set, warns.
            guidance_scale (float): How far to go from unconditional (0) to conditional (1), or beyond; other values
                than these take twice the work. (default: :obj:`1.0`)
            temperature (float): Of the types and parents; 0 takes the most likely. (default: :obj:`1.0`)
            top_p (float): Types are drawn from the smallest set of at least this probability. (default: :obj:`1.0`)
            num_steps (int, optional): Evaluations of the diffusion head an atom. (default: :obj:`12`)
            solver (str): Of :data:`~torch_geometric_inertial.nn.flow_solvers.SOLVERS`. (default: :obj:`'dpmpp'`)
            seed (int): Seed. (default: :obj:`0`)
            batch_size (int, optional): Molecules at a time, halved when memory runs out. (default: :obj:`512`, on a
                GPU :obj:`2048`)
            max_atoms (int, optional): Molecules that reach it are returned as they are, :obj:`finished=False`.
            shard (tuple): :math:`(i, n)`: the i-th of n consecutive parts; the parts in order are the whole.

        Raises:
            ValueError: On arguments out of range.
        """
        max_atoms = self._length_limit(max_atoms)
        sampling = self._sampling(temperature, top_p, num_steps, solver, guidance_scale, groups, properties)
        wanted = self._wanted(num_samples, groups, properties)
        i, n = shard
        if not 0 <= i < n:
            raise ValueError(f"'shard' must be (i, n) with 0 <= i < n (got {tuple(shard)})")
        index = range(num_samples * i // n, num_samples * (i + 1) // n)
        requests = (Request(i, max_atoms, None if wanted is None else {name: x[i] for name, x in wanted.items()})
                    for i in index)
        return self.write(requests, sampling, seed=seed, batch_size=batch_size, max_atoms=max_atoms)

    def complete(self, scaffold: Data, num_samples: int = 1, *, groups: Tensor | list[str] | None = None,
                 properties: dict | None = None, guidance_scale: float = 1.0, temperature: float = 1.0,
                 top_p: float = 1.0, num_steps: int | None = None, solver: str = 'dpmpp', seed: int = 0,
                 batch_size: int | None = None, max_atoms: int | None = None, num_poses: int = 8,
                 progress: bool = False) -> list[Data]:
        r"""Writes molecules around a scaffold, whose atoms stay where they are. Hydrogens that it lacks are written
        by the model, those that it has are kept.

        The model knows whole molecules in a frame of their own, and the frame of a part is not that of the whole. So
        the rigid motion :math:`g` that takes the scaffold there, and the order :math:`\pi` of its atoms, are drawn
        from their posterior :math:`p(g, \pi \mid \text{scaffold}) \propto p(\text{scaffold at } g \text{ in order }
        \pi)\, q(g, \pi)`: :obj:`num_poses` candidates come from :math:`q`
        (:func:`~torch_geometric_inertial.models.fragment.propose_poses`), one is drawn by the likelihood that the
        model gives to its types, parents and places
        (:func:`~torch_geometric_inertial.models.prefix_likelihood.prefix_log_prob`), and writing goes on from there.
        The result is moved back.

        Where the model's order has hydrogens last, the heavy atoms of the scaffold are the beginning of the sequence,
        and its hydrogens, if any, take the place of the first ones that the model writes. Where hydrogens stand
        between (:obj:`order='smiles'`), the sequence begins with the first atom of the scaffold, and at each step the
        model writes a hydrogen or goes on to the next atom of the scaffold, until that is exhausted. It does so
        without knowing the rest of the scaffold, so that hydrogens of rings are forgotten: give such models the
        scaffold with its hydrogens, except where it is to grow.

        Args:
            scaffold (Data): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order.
            num_samples (int): Number of molecules. (default: :obj:`1`)
            num_poses (int): Candidates of pose and order. (default: :obj:`8`)
            progress (bool): Whether to show a progress bar.
            groups, properties, guidance_scale, temperature, top_p, num_steps, solver, seed, batch_size, max_atoms: See
                :meth:`stream`.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å, the scaffold's own
            coordinates and dtype; the scaffold's atoms first, in its order), :obj:`fixed` [N] and :obj:`finished`.

        Raises:
            ValueError: On arguments out of range, and on scaffolds that are empty, too long, not finite, of unknown
                elements, or with two atoms within 0.4 Å.
        """
        max_atoms = self._length_limit(max_atoms)
        sampling = self._sampling(temperature, top_p, num_steps, solver, guidance_scale, groups, properties)
        wanted = self._wanted(num_samples, groups, properties)
        fragment = self._fragment(scaffold, "'scaffold'", max_atoms, num_poses, whole=False)
        requests = [Request(i, max_atoms, None if wanted is None else {name: x[i] for name, x in wanted.items()},
                            fragment) for i in range(num_samples)]
        molecules = self.write(requests, sampling, seed=seed, batch_size=batch_size, max_atoms=max_atoms)
        molecules = tqdm(molecules, total=num_samples, unit='mol', disable=not progress)
        return [_like(data, scaffold) for data in molecules]

    def add_hydrogens(self, heavy: Data | list[Data], *, temperature: float = 1.0, top_p: float = 1.0,
                      num_steps: int | None = None, solver: str = 'dpmpp', seed: int = 0,
                      batch_size: int | None = None, max_atoms: int | None = None, num_poses: int = 8,
                      canonical: Callable[[Data], Data] | None = None, progress: bool = False) -> Data | list[Data]:
        r"""Places the hydrogens of molecules that lack some or all; the atoms that are there stay where they are.

        As :meth:`complete`, with nothing but hydrogens to write: plain continuation of the heavy atoms, for models
        whose order has the hydrogens last (:obj:`order='heavy_first'`). The frame of the heavy atoms is near that of
        the molecule, so the poses are drawn around it. The model decides how many hydrogens each atom takes: it sees
        neither bonds nor charges. Models of other orders are refused: where hydrogens stand between
        (:obj:`order='smiles'`), each would have to be decided before the heavy atoms that follow are seen, and the
        sequence begins with one.

        The order of :obj:`heavy_first` is that of the heavy atoms alone, so :obj:`canonical` finds it for molecules
        that have no hydrogens yet; without it, the atoms are taken to be in that order, or in another that the
        likelihood prefers.

        Args:
            heavy (Data or list): :obj:`z` [F] and :obj:`pos` [F, 3] in Å, in any pose and order.
            canonical (callable, optional): Puts atoms in the order of the training set, such as
                :obj:`Compose([InertialFrame(), CanonicalOrder(order='heavy_first')])`.
            num_poses, progress, temperature, top_p, num_steps, solver, seed, batch_size, max_atoms: See
                :meth:`complete`.

        Returns:
            Data or list: As given: :obj:`z` [N], :obj:`pos` [N, 3] (the given atoms first), :obj:`fixed` [N] and
            :obj:`finished`.

        Raises:
            ValueError: As :meth:`complete`, and if the model does not know hydrogen or its order does not allow it.
        """
        max_atoms = self._length_limit(max_atoms)
        sampling = self._sampling(temperature, top_p, num_steps, solver, 1.0, None, None)
        if 1 not in self.elements:
            raise ValueError(f"'add_hydrogens' needs a model that knows hydrogen (got elements {self.elements})")
        if HYDROGENS.get(self.config.order) not in ('last', 'anywhere'):
            raise ValueError(f"'add_hydrogens' needs a model whose order has the hydrogens last, as 'heavy_first' (got "
                             f"order '{self.config.order}', in which they are written before all heavy atoms are seen)")
        molecules = [heavy] if isinstance(heavy, Data) else list(heavy)
        allowed = torch.zeros(self.stop + 1, dtype=torch.bool)
        allowed[[self.elements.index(1), self.stop]] = True
        requests = []
        for i, data in enumerate(molecules):
            what = "'heavy'" if isinstance(heavy, Data) else f"molecule {i} of 'heavy'"
            fragment = self._fragment(data, what, max_atoms, num_poses, whole=True)
            order = None if canonical is None else _order_of(fragment, canonical)
            fragment = fragment if order is None else fragment.reorder(order)
            requests.append(Request(i, max_atoms, None, fragment, allowed))
        written = self.write(requests, sampling, seed=seed, batch_size=batch_size, max_atoms=max_atoms)
        written = tqdm(written, total=len(requests), unit='mol', disable=not progress)
        out = [_like(data, given) for data, given in zip(written, molecules, strict=True)]
        return out[0] if isinstance(heavy, Data) else out

    def write(self, requests: Iterable[Request], sampling: Sampling, *, seed: int = 0,
              batch_size: int | None = None, max_atoms: int | None = None) -> Iterator[Data]:
        r"""Answers requests, each of a number of its own, in their order. Molecules that are done leave the batch and
        others enter.

        When memory runs out, the molecules that were being written begin again, half as many at a time: as each
        depends on nothing but the seed and its number, nothing changes and nothing is lost.
        """
        if batch_size is None:
            batch_size = 2048 if self.radii.device.type == 'cuda' else 512
        if batch_size < 1:
            raise ValueError(f"'batch_size' must be at least 1 (got {batch_size})")
        return self._write(iter(requests), sampling, seed, batch_size, self._length_limit(max_atoms))

    def _write(self, requests: Iterator[Request], sampling: Sampling, seed: int, capacity: int,
               max_atoms: int) -> Iterator[Data]:
        was_training = self.training
        self.eval()
        try:
            order: deque[int] = deque()  # what is being written, as it came
            done: dict[int, Data] = {}
            waiting: deque[Request] = deque()
            state = None
            while True:
                room = capacity - (0 if state is None else len(state)) - len(waiting)
                for request in (r for _, r in zip(range(room), requests, strict=False)):
                    waiting.append(request)
                    order.append(request.index)
                if not waiting and (state is None or len(state) == 0):
                    return
                entering = [waiting.popleft() for _ in range(min(len(waiting), capacity - len(state or ())))]
                short = False
                try:
                    if state is None:
                        state = WritingState(self, len(entering), max_atoms, sampling.branches)
                    self._step(state, entering, sampling, seed, done)
                except RuntimeError as error:
                    if not out_of_memory(error) or capacity == 1:
                        raise
                    short = True
                if short:  # out here the failed step's tensors are free
                    again = {r.index: r for r in (*(row.request for row in (state.rows if state else ())), *entering)
                             if r.index not in done}
                    waiting.extendleft(again[i] for i in sorted(again, reverse=True))
                    capacity, state = max(1, min(capacity, len(again)) // 2), None
                    if self.radii.device.type == 'cuda':
                        torch.cuda.empty_cache()
                    warnings.warn(f'memory ran out: going on with {capacity} molecules at a time', stacklevel=3)
                while order and order[0] in done:
                    yield done.pop(order.popleft())
        finally:
            self.train(was_training)

    @torch.no_grad()
    def _step(self, state: WritingState, entering: list[Request], sampling: Sampling, seed: int,
              done: dict[int, Data]) -> None:
        r"""Lets new molecules in, writes one atom of each molecule, and adds those that are done to :obj:`done`."""
        if entering:
            self._enter(state, entering, sampling, seed)
        device, branches = self.radii.device, state.branches
        n = len(state)
        state.make_room(state.width)
        token = state.token[:n * branches]
        h = state.advance(self.type_stack, self.type_geometry, token, 'type')
        count, width = state.count[:n].to(device), state.width
        accounts = None
        if self.valence is not None:
            types, pos = state.types[:n, :width], state.pos[:n, :width]
            accounts = self.valence(pos, self.radii[types], types, count.unsqueeze(1))  # [n, 1, width, W]
            accounts = accounts.repeat_interleave(branches, dim=0)
            h = h + self.valence.to_token(accounts.sum(dim=(1, 2)))
        row = torch.arange(n, device=device)
        logits = guided(self.type_head(h).float(), sampling.guidance_scale, branches)
        logits = logits.masked_fill(~self._allowed(state), -torch.inf)
        types = draw(logits, state.chance[row, count, 0], sampling.temperature, sampling.top_p)

        types_here = types.cpu()
        stopped, full = types_here == self.stop, state.count[:n] == state.limit[:n]
        gone = (stopped | full).nonzero().flatten()
        if gone.numel() > 0:
            elements = torch.tensor(self.elements)
            for r in gone.tolist():
                done[state.rows[r].request.index] = state.molecule(r, elements, finished=bool(stopped[r]))
            order = state.leave(gone)
            n = len(state)
            if n == 0:
                return
            split = state.branch_rows(order)
            types, row, count = types[order], row[:n], state.count[:n].to(device)
            h, token = h[split], token[split]
            accounts = None if accounts is None else accounts[split]
            types_here = types.cpu()
            width = state.width
            accounts = None if accounts is None else accounts[:, :, :width]

        split = torch.arange(n * branches, device=device)
        z = state.advance(self.coord_stack, self.coord_geometry,
                          h + self.embedding.next_type(types.repeat_interleave(branches)) + self._skip(token), 'coord')
        counts = count.repeat_interleave(branches)
        state.memory[split, (counts - 1).clamp(min=0)] = z  # with no atom yet: what slot 0 holds is not looked at
        memory = state.memory[:n * branches, :width]
        seen_types, seen_pos = state.types[:n, :width], state.pos[:n, :width]
        logits = self._parent_logits(z.unsqueeze(1), memory, counts.unsqueeze(1), accounts)
        parent = torch.zeros_like(row)
        if logits is not None:
            logits = guided(logits[:, 0], sampling.guidance_scale, branches)
            parent = draw(logits, state.chance[row, count, 1], sampling.temperature, 1.0)
        forced = self._forced(state, types_here)
        fixed_pos = None
        if forced is not None:
            fixed_pos = state.queue_pos[row, (state.waiting[:n].to(device) - 1).clamp(min=0)]
            if self.placement.has_parent:
                parent = torch.where(forced.to(device), self._nearest(seen_types, seen_pos, count, types, fixed_pos),
                                     parent)
        around = self.placement(seen_pos, self.radii[seen_types], parent.unsqueeze(1), count.unsqueeze(1))
        around = around.map(lambda x: x.squeeze(1))
        free = None if forced is None else ~forced.to(device)
        local = self._place(z, memory, seen_types, parent, count, around, accounts, free, state, sampling)
        token_pos = around.to_global(local)
        if forced is not None and fixed_pos is not None:
            token_pos = torch.where(forced.to(device).unsqueeze(1), fixed_pos, token_pos)
            local = around.to_local(token_pos)
        state.types[row, count], state.pos[row, count], state.token_pos[:n] = types, token_pos, token_pos
        token = self.embedding(types, count, token_pos, local, state.types[row, parent], parent)
        state.token[:n * branches] = token.repeat_interleave(branches, dim=0)
        if forced is not None:
            for r in forced.nonzero().flatten().tolist():
                state.rows[r].fixed.append(int(state.count[r]))
            state.waiting[:n] -= forced.long()
        state.count[:n] += 1

    def _place(self, z: Tensor, memory: Tensor, types: Tensor, parent: Tensor, count: Tensor, around: Neighbourhood,
               accounts: Tensor | None, free: Tensor | None, state: WritingState, sampling: Sampling) -> Tensor:
        r"""Draws the coordinates [n, 3] of the next atoms; zero where they are not :obj:`free`."""
        branches, device = state.branches, z.device
        rows = torch.arange(parent.numel(), device=device) if free is None else free.nonzero().flatten()
        if rows.numel() == 0:
            return z.new_zeros(parent.numel(), 3)
        split = state.branch_rows(rows)
        around = around.map(lambda x: x[rows].repeat_interleave(branches, dim=0))
        seen = (z[split], memory, types.repeat_interleave(branches, dim=0), split,
                parent[rows].repeat_interleave(branches), count[rows].repeat_interleave(branches), around)
        cond = self._place_condition(*seen, None if accounts is None else accounts[split].squeeze(1))
        pairs = None if self.pair_keys is None else self.pair_keys(*seen)
        noise = state.noise[rows, count[rows]]
        guidance = {}
        if branches == 2:
            cond, null = cond[0::2], cond[1::2]
            pairs, null_pairs = (None, None) if pairs is None else (Pairs(*(x[b::2] for x in pairs)) for b in range(2))
            guidance = dict(guidance=(null, null_pairs, sampling.guidance_scale))
        local = self.head.sample(cond, noise, sampling.num_steps, sampling.solver, pairs=pairs, **guidance)
        return local if free is None else local.new_zeros(parent.numel(), 3).index_copy(0, rows, local)

    def _allowed(self, state: WritingState) -> Tensor:
        r"""Which types may be drawn next [n, V]: a molecule has an atom, and all atoms of its fragment."""
        n, device = len(state), self.radii.device
        allowed = state.after[:n].clone()
        waiting, count = state.waiting[:n], state.count[:n]
        if bool(waiting.any()):
            here = waiting.to(device)
            row = torch.arange(n, device=device)
            due = nn.functional.one_hot(state.queue_types[row, (here - 1).clamp(min=0)], self.stop + 1).bool()
            no_room = (count + waiting >= state.limit[:n]).to(device).unsqueeze(1)
            during = due | (state.during[:n] & ~no_room)
            allowed = torch.where((here > 0).unsqueeze(1), during, allowed)
        allowed[:, self.stop] &= (count > 0).to(device)
        return allowed

    def _forced(self, state: WritingState, types: Tensor) -> Tensor | None:
        r"""Whose next atom is one of the fragment's [n], on the CPU; :obj:`None` if nobody's."""
        n = len(state)
        waiting = state.waiting[:n]
        if not bool(waiting.any()):
            return None
        due = state.queue_types[torch.arange(n), (waiting - 1).clamp(min=0).to(self.radii.device)].cpu()
        return (waiting > 0) & (types == due)

    def _nearest(self, types: Tensor, pos: Tensor, count: Tensor, next_type: Tensor, next_pos: Tensor) -> Tensor:
        r"""The parent [n] of an atom whose place is given, as in training."""
        row = torch.arange(count.numel(), device=pos.device)
        types, pos = types.clone(), pos.clone()
        types[row, count], pos[row, count] = next_type, next_pos
        return find_parents(pos, self.radii[types])[row, count]

    # New molecules -----------------------------------------------------------------------------------------------

    def _enter(self, state: WritingState, entering: list[Request], sampling: Sampling, seed: int) -> None:
        r"""Puts molecules into free rows; those with a fragment begin with it."""
        numbers = [random_numbers(seed, request.index, self.max_atoms) for request in entering]
        wanted = None
        if entering[0].wanted is not None:
            wanted = {name: torch.stack([request.wanted[name] for request in entering if request.wanted])
                      for name in entering[0].wanted}
        null = self.condition(None, len(entering))
        if sampling.guidance_scale == 0:
            wanted = None
        begin = null if wanted is None else self.condition(wanted, len(entering))
        poses = self._choose_poses(entering, wanted, numbers)
        rows = [Row(*row, []) for row in zip(entering, numbers, poses, strict=True)]
        if state.branches == 2:
            begin = torch.stack([begin, null], dim=1).flatten(0, 1)
        at = state.enter(rows, begin, self.stop)
        if any(pose is not None for pose in poses):
            self._begin_with_fragments(state, at, rows, begin)

    def _choose_poses(self, entering: list[Request], wanted: dict[str, Tensor] | None,
                      numbers: list[RandomNumbers]) -> list[Poses | None]:
        r"""One pose for each molecule with a fragment, drawn by the likelihood of the fragment in it."""
        chosen: list[Poses | None] = [None] * len(entering)
        with_fragment = [(i, request.fragment) for i, request in enumerate(entering) if request.fragment is not None]
        at = 0
        while at < len(with_fragment):
            part: list[tuple[int, Fragment, Poses]] = []
            total = 0
            while at < len(with_fragment) and (not part or total < _PREFIX_TOKENS):
                i, fragment = with_fragment[at]
                part.append((i, fragment, propose_poses(fragment, numbers[i].generator)))
                total, at = total + fragment.num_poses * fragment.z.numel(), at + 1
            device = self.radii.device
            sizes = torch.tensor([f.z.numel() for _, f, poses in part for _ in range(f.num_poses)])
            row = torch.tensor([i for i, f, _ in part for _ in range(f.num_poses)]).to(device)
            noise = torch.cat([torch.randn(3, generator=numbers[i].generator).expand(poses.perm.numel(), 3)
                               for i, _, poses in part])
            seen = self.read(Data(z=torch.cat([f.z[poses.perm].flatten() for _, f, poses in part]).to(device),
                                  pos=torch.cat([poses.positions(f.pos).flatten(0, 1) for _, f, poses in part]).to(
                                      device, torch.float),
                                  ptr=torch.cat([sizes.new_zeros(1), sizes.cumsum(0)]).to(device),
                                  **{name: x[row] for name, x in (wanted or {}).items()}))
            score = prefix_log_prob(seen, self.head, noise.to(device)).cpu()
            start = 0
            for i, fragment, poses in part:
                chance = torch.rand(1, generator=numbers[i].generator)
                logits = score[start:start + fragment.num_poses].unsqueeze(0)
                chosen[i] = poses.select(int(draw(logits, chance, 1.0, 1.0)))
                start += fragment.num_poses
        return chosen

    def _begin_with_fragments(self, state: WritingState, at: Tensor, rows: list[Row], begin: Tensor) -> None:
        r"""Reads the first atoms of the fragments into the caches and lets the others wait."""
        device, branches = self.radii.device, state.branches
        types, pos, sizes = [], [], []
        for r, row in zip(at.tolist(), rows, strict=True):
            fragment, pose = row.request.fragment, row.pose
            if fragment is None or pose is None:
                continue
            first, perm = fragment.num_prefix, pose.perm[0]
            own_types, own_pos = fragment.types[perm].to(device), pose.positions(fragment.pos)[0].float().to(device)
            rest = perm.numel() - first
            state.types[r, :first], state.pos[r, :first] = own_types[:first], own_pos[:first]
            state.token_pos[r], state.count[r], state.waiting[r] = own_pos[first - 1], first, rest
            state.queue_types[r, :rest], state.queue_pos[r, :rest] = own_types[first:].flip(0), own_pos[first:].flip(0)
            hydrogen = torch.tensor([*(z == 1 for z in self.elements), False])
            heavy = ~hydrogen & (torch.arange(self.stop + 1) < self.stop)
            during = hydrogen if fragment.hydrogens == 'between' else heavy
            state.during[r] = (during & state.after[r].cpu()).to(device)
            row.fixed += range(first)
            types += [own_types[:first]] * branches
            pos += [own_pos[:first]] * branches
            sizes += [first] * branches
        split = state.branch_rows(at)
        state.make_room(max(sizes))
        ptr = torch.tensor([0, *sizes]).cumsum(0).to(device)
        caches = new_caches(self, len(sizes), max(sizes))
        prefix = read_prefix(self, torch.cat(types), torch.cat(pos), ptr, begin, caches)
        state.token[split], state.memory[split, :max(sizes)] = prefix.token, prefix.memory
        source = torch.arange(len(sizes), device=device)
        for name, (shared, layers) in state.caches.items():
            other, other_layers = caches[name]
            shared.put(split, other, source)
            for cache, other_cache in zip(layers, other_layers, strict=True):
                cache.put(split, other_cache, source)

    # Arguments ---------------------------------------------------------------------------------------------------

    def _length_limit(self, max_atoms: int | None) -> int:
        if max_atoms is None:
            return self.max_atoms
        if max_atoms < 1:
            raise ValueError(f"'max_atoms' must be at least 1 (got {max_atoms})")
        if max_atoms > self.max_atoms:
            raise ValueError(f"'max_atoms' must be at most {self.max_atoms}, the model's own (got {max_atoms})")
        return max_atoms

    def _sampling(self, temperature: float, top_p: float, num_steps: int | None, solver: str, guidance_scale: float,
                  groups: Tensor | list[str] | None, properties: dict | None) -> Sampling:
        sampling = Sampling(temperature, top_p, NUM_STEPS if num_steps is None else num_steps, solver, guidance_scale)
        if guidance_scale != 1:
            if groups is None and not properties:
                raise ValueError(f"'guidance_scale' needs 'groups' or 'properties' (got {guidance_scale} and neither)")
            if not self.condition.has_null:
                raise ValueError(f"'guidance_scale' must be 1 for a model that was trained without a null condition, "
                                 f"with condition_dropout=0 (got {guidance_scale})")
        return sampling

    def _wanted(self, num_samples: int, groups: Tensor | list[str] | None,
                properties: dict | None) -> dict[str, Tensor] | None:
        r"""The conditions of all molecules, each [num_samples, ...]; :obj:`None` if there are none."""
        if num_samples < 1:
            raise ValueError(f"'num_samples' must be at least 1 (got {num_samples})")
        return self.condition.wanted(num_samples, groups, properties)

    def _fragment(self, data: Data, what: str, max_atoms: int, num_poses: int, whole: bool) -> Fragment:
        r"""A checked fragment; :obj:`what` names it in messages."""
        order = self.config.order
        if order not in HYDROGENS:
            raise ValueError(f"a model of order '{order}' cannot begin with a part of a molecule: its sequences do not "
                             f"keep one together (needs one of {', '.join(map(repr, HYDROGENS))})")
        if num_poses < 1:
            raise ValueError(f"'num_poses' must be at least 1 (got {num_poses})")
        try:
            z, pos = data.get('z'), data.get('pos')
            if z is None or pos is None:
                raise ValueError(f"'z' and 'pos' must be there (got {data})")
            given = Data(z=z.to(self.radii.device), pos=pos.to(self.radii.device))
            types, _, _ = self.tokenize(given)
            if z.numel() > max_atoms:
                raise ValueError(f"'max_atoms' is {max_atoms} (got {z.numel()} atoms)")
            pos = pos.detach().cpu().double()
            distance = torch.cdist(pos, pos).fill_diagonal_(torch.inf)
            if float(distance.min()) < MIN_DISTANCE:
                i, j = divmod(int(distance.argmin()), z.numel())
                raise ValueError(f'no two atoms may be within {MIN_DISTANCE} Å '
                                 f'(got {float(distance.min()):.3f} Å between atoms {i} and {j})')
        except ValueError as error:
            raise ValueError(f'{what} is not a molecule for this model: {error}') from error
        return Fragment(z.cpu().long(), types.cpu(), pos, HYDROGENS[order], num_poses, whole)


def guided(logits: Tensor, scale: float, branches: int) -> Tensor:
    r""":math:`\emptyset + w (c - \emptyset)` of rows [n * branches, V], conditional and unconditional in turn."""
    if branches == 1:
        return logits
    cond, null = logits[0::2], logits[1::2]
    return null + scale * (cond - null)


def out_of_memory(error: RuntimeError) -> bool:
    r"""Whether an allocator, of a GPU or of the CPU, has run out."""
    text = str(error)
    return isinstance(error, torch.OutOfMemoryError) or 'not enough memory' in text or "can't allocate memory" in text


def _order_of(fragment: Fragment, canonical: Callable[[Data], Data]) -> Tensor | None:
    r"""The canonical order [F] of a fragment's atoms; :obj:`None` if they have none, as they overlap."""
    try:
        return canonical(Data(z=fragment.z, pos=fragment.pos, number=torch.arange(fragment.z.numel()))).number
    except ValueError:
        return None


def _like(data: Data, given: Data) -> Data:
    r"""A written molecule with what was given first, in its order and dtype."""
    data.pos = data.pos.to(given.pos.dtype)
    data.z[:given.num_nodes], data.pos[:given.num_nodes] = given.z.cpu(), given.pos.cpu()
    return data
