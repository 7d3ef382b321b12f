r"""Writing molecules atom by atom: the loop, its state, and how its random numbers are drawn."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.nn.geo_rope_attention import AttentionCache, GeometryCache, GeoRoPEGeometry
from torch_geometric_inertial.nn.transformer_block import CausalStack


@dataclass
class WritingState:
    r"""The molecules of one batch while they are written; all have the same number of atoms.

    Attributes:
        row (Tensor): Which molecule of the batch each row is [R].
        types (Tensor): Types of placed atoms [R, N]; the stop type where none is yet.
        pos (Tensor): Their positions [R, N, 3].
        memory (Tensor): Their vectors from the second stack [R, N, C].
        caches (dict): Of both stacks: the geometry and one entry a layer.
    """
    row: Tensor
    types: Tensor
    pos: Tensor
    memory: Tensor
    caches: dict[str, tuple[GeometryCache, list[AttentionCache]]]

    @classmethod
    def empty(cls, model: AtomWriter, num_rows: int, max_atoms: int) -> WritingState:
        like = model.radii
        caches = {}
        for name, stack, geometry in (('type', model.type_stack, model.type_geometry),
                                      ('coord', model.coord_stack, model.coord_geometry)):
            shared = geometry.new_cache(num_rows, max_atoms + 1, like)
            caches[name] = (shared, stack.new_cache(num_rows, max_atoms + 1, like, shared))
        return cls(torch.arange(num_rows), torch.full((num_rows, max_atoms), model.stop, device=like.device),
                   like.new_zeros(num_rows, max_atoms, 3), like.new_zeros(num_rows, max_atoms, model.channels), caches)

    def advance(self, stack: CausalStack, geometry: GeoRoPEGeometry, token: Tensor, pos: Tensor, name: str) -> Tensor:
        r"""One new token a row through a stack."""
        shared, layers = self.caches[name]
        ptr = torch.arange(token.size(0) + 1, device=token.device)
        return stack(token, pos, ptr, geometry(pos, ptr, shared), layers)

    def keep(self, rows: Tensor) -> None:
        r"""Drops all other rows."""
        self.row = self.row[rows.cpu()]
        self.types, self.pos, self.memory = self.types[rows], self.pos[rows], self.memory[rows]
        for name, (shared, layers) in self.caches.items():
            shared = shared.select(rows)
            self.caches[name] = (shared, [layer.select(rows, shared) for layer in layers])


def draw_numbers(seed: int, index: range, max_atoms: int) -> tuple[Tensor, Tensor]:
    r"""All random numbers of the molecules :obj:`index`: uniform [R, N + 1, 2] and normal [R, N, 3].

    Molecule :math:`i` has a generator of its own, seeded by :math:`(seed, i)`, so that it does not depend on others.
    """
    def streams() -> Iterator[tuple[Tensor, Tensor]]:
        for i in index:
            generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + i * 0xD1B54A32D192ED03) % 2**63)
            yield torch.rand(max_atoms + 1, 2, generator=generator), torch.randn(max_atoms, 3, generator=generator)

    chance, noise = zip(*streams(), strict=True)
    return torch.stack(chance), torch.stack(noise)


def draw(logits: Tensor, chance: Tensor, temperature: float, top_p: float) -> Tensor:
    r"""Draws a class a row by inverting the cumulative distribution at :obj:`chance`.

    Args:
        logits (Tensor): [R, V].
        chance (Tensor): Uniform numbers [R].
        temperature (float): 0 takes the most likely class.
        top_p (float): Keep the smallest set of classes of at least this probability.
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    prob, order = (logits.double() / temperature).softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    before = prob.cumsum(dim=-1) - prob
    prob = prob.masked_fill(before >= top_p, 0)
    total = prob.cumsum(dim=-1)
    pick = (total <= chance.double().unsqueeze(-1) * total[:, -1:]).sum(dim=-1, keepdim=True)
    return order.gather(-1, pick.clamp(max=prob.size(-1) - 1)).squeeze(-1)


class AtomWriter(nn.Module):
    r"""The writing half of :class:`~torch_geometric_inertial.models.autoregressor.AtomAutoregressor`, whose modules it
    uses."""
    elements: tuple[int, ...]
    max_atoms: int
    channels: int
    radii: Tensor
    valence: Any
    pair_keys: Any

    @property
    def stop(self) -> int:
        r"""The type that ends a molecule."""
        return len(self.elements)

    @torch.no_grad()
    def generate(self, num_samples: int, *, groups: Tensor | None = None, temperature: float = 1.0,
                 top_p: float = 1.0, num_steps: int | None = None, solver: str = 'dpmpp', seed: int = 0,
                 batch_size: int | None = None, max_atoms: int | None = None, progress: bool = False) -> list[Data]:
        r"""Writes molecules. Molecule :obj:`i` is a function of :obj:`(seed, i)`, whatever the batch size (up to the
        rounding of matrix products, which the flow can amplify to about 1e-3 Å).

        Args:
            num_samples (int): Number of molecules.
            groups (Tensor, optional): Wanted groups, 0/1, [G] for all or [num_samples, G]; unconditional if
                :obj:`None`.
            temperature (float): Of the types and parents; 0 takes the most likely. (default: :obj:`1.0`)
            top_p (float): Types are drawn from the smallest set of at least this probability. (default: :obj:`1.0`)
            num_steps (int, optional): Evaluations of the diffusion head an atom. (default: :obj:`24`)
            solver (str): :obj:`'dpmpp'` or :obj:`'heun'`. (default: :obj:`'dpmpp'`)
            seed (int): Seed. (default: :obj:`0`)
            batch_size (int, optional): Molecules at a time. (default: :obj:`512`)
            max_atoms (int, optional): Molecules that reach it are returned as they are, :obj:`finished=False`.
            progress (bool): Whether to show a progress bar.

        Returns:
            list: :class:`~torch_geometric.data.Data` with :obj:`z` [N], :obj:`pos` [N, 3] (Å) and :obj:`finished`.

        Raises:
            ValueError: On arguments out of range.
        """
        max_atoms = self.max_atoms if max_atoms is None else max_atoms
        batch_size = 512 if batch_size is None else batch_size
        num_steps = 24 if num_steps is None else num_steps
        for value, name in ((num_samples, 'num_samples'), (batch_size, 'batch_size'), (max_atoms, 'max_atoms')):
            if value < 1:
                raise ValueError(f"'{name}' must be at least 1 (got {value})")
        if max_atoms > self.max_atoms:
            raise ValueError(f"'max_atoms' must be at most {self.max_atoms}, the model's own (got {max_atoms})")
        if temperature < 0:
            raise ValueError(f"'temperature' must not be negative (got {temperature})")
        if not 0 < top_p <= 1:
            raise ValueError(f"'top_p' must be in (0, 1] (got {top_p})")
        if groups is not None:
            if groups.dim() not in (1, 2) or (groups.dim() == 2 and groups.size(0) not in (1, num_samples)):
                raise ValueError(f"'groups' must be [G] or [{num_samples}, G] (got {tuple(groups.shape)})")
            groups = groups.to(self.radii.device).expand(num_samples, -1)
        was_training = self.training
        self.eval()
        molecules: list[Data] = []
        try:
            with tqdm(total=num_samples, unit='mol', disable=not progress) as bar:
                for start in range(0, num_samples, batch_size):
                    index = range(start, min(start + batch_size, num_samples))
                    chunk = None if groups is None else groups[start:index.stop]
                    molecules += self._write(index, chunk, temperature, top_p, num_steps, solver, seed, max_atoms)
                    bar.update(len(index))
        finally:
            self.train(was_training)
        return molecules

    def _write(self, index: range, groups: Tensor | None, temperature: float, top_p: float, num_steps: int,
               solver: str, seed: int, max_atoms: int) -> list[Data]:
        device = self.radii.device
        chance, noise = (x.to(device) for x in draw_numbers(seed, index, self.max_atoms))
        state = WritingState.empty(self, len(index), max_atoms)
        token, token_pos = self.condition(groups, len(index)), torch.zeros(len(index), 3, device=device)
        out: dict[int, Data] = {}

        def finish(r: int, length: int, finished: bool) -> None:
            z = torch.tensor(self.elements)[state.types[r, :length].cpu()]
            out[int(state.row[r])] = Data(z=z, pos=state.pos[r, :length].cpu(), finished=finished)

        for t in range(max_atoms + 1):
            h = state.advance(self.type_stack, self.type_geometry, token, token_pos, 'type')
            accounts = None
            if self.valence is not None:
                count = torch.full((state.types.size(0), 1), t, device=device)
                accounts = self.valence(state.pos, self.radii[state.types], state.types, count)  # [R, 1, N, W]
                h = h + self.valence.to_token(accounts.sum(dim=(1, 2)))
            logits = self.type_head(h).float()
            if t == 0:
                logits[:, self.stop] = -torch.inf  # a molecule has an atom
            types = draw(logits, chance[:, t, 0], temperature, top_p)
            stopped = types == self.stop
            if bool(stopped.any()) or t == max_atoms:
                for r in range(types.numel()):
                    if stopped[r] or t == max_atoms:
                        finish(r, t, bool(stopped[r]))
                keep = (~stopped).nonzero().flatten()
                if t == max_atoms or keep.numel() == 0:
                    break
                state.keep(keep)
                chance, noise, h, types = chance[keep], noise[keep], h[keep], types[keep]
                accounts = None if accounts is None else accounts[keep]
                token, token_pos = token[keep], token_pos[keep]
            z = state.advance(self.coord_stack, self.coord_geometry,
                              h + self.embedding.next_type(types) + self._skip(token), token_pos, 'coord')
            if t > 0:
                state.memory[:, t - 1] = z
            row = torch.arange(types.numel(), device=device)
            count, parent = torch.full_like(row, t), torch.zeros_like(row)
            logits = self._parent_logits(z.unsqueeze(1), state.memory, count.unsqueeze(1), accounts)
            if logits is not None:
                parent = draw(logits[:, 0], chance[:, t, 1], temperature, 1.0)
            around = self.placement(state.pos, self.radii[state.types], parent.unsqueeze(1), count.unsqueeze(1))
            around = around.map(lambda x: x.squeeze(1))
            cond = self._place_condition(z, state.memory, state.types, row, parent, count, around,
                                         None if accounts is None else accounts.squeeze(1))
            pairs = None
            if self.pair_keys is not None:
                pairs = self.pair_keys(z, state.memory, state.types, row, parent, count, around)
            local = self.head.sample(cond, noise[:, t], num_steps, solver, pairs=pairs)
            token_pos = around.to_global(local)
            state.types[:, t], state.pos[:, t] = types, token_pos
            token = self.embedding(types, count, token_pos, local, state.types[row, parent], parent)
        return [out[i] for i in range(len(index))]
