r"""The state of molecules that are being written, and how their random numbers are drawn."""
from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from torch_geometric_inertial.nn.geo_rope_attention import AttentionCache, GeometryCache, GeoRoPEGeometry
from torch_geometric_inertial.nn.transformer_block import CausalStack

if TYPE_CHECKING:
    from torch_geometric_inertial.models.autoregressor import AtomAutoregressor


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
    def empty(cls, model: AtomAutoregressor, num_rows: int, max_atoms: int) -> WritingState:
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
