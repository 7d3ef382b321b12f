r"""How a molecule is drawn, told once without caches, batches, guidance or scaffolds: to read, and to test against.

Every step runs both stacks over the whole sequence again. What the
:class:`~torch_geometric_inertial.generation.AtomStepper` does quickly must come to the same.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.draws import draw, random_numbers
from torch_geometric_inertial.generation.requests import SamplingConfig


@torch.no_grad()
def generate_plainly(model: AtomModel, index: int = 0, seed: int = 0, *, sampling: SamplingConfig | None = None,
                     conditions: dict[str, Tensor] | None = None, max_atoms: int | None = None) -> Data:
    r"""Molecule :obj:`index` of :meth:`~torch_geometric_inertial.models.AtomAutoregressor.generate`; the model must be
    in evaluation mode, and :obj:`conditions` are [1, ...], by name."""
    c = SamplingConfig() if sampling is None else sampling
    uniform, noise, _ = random_numbers(seed, index, model.max_atoms)
    tokens, pos = model.condition(conditions, 1), model.radii.new_zeros(1, 3)  # the condition, at the origin
    types = torch.empty(0, dtype=torch.long, device=pos.device)
    for t in range((model.max_atoms if max_atoms is None else max_atoms) + 1):
        ptr = torch.tensor([0, t + 1], device=pos.device)
        h = model.type_states(tokens, pos, ptr)
        logits = model.type_head(h[-1:]).float()
        if t == 0:
            logits[:, model.stop] = -torch.inf  # a molecule has an atom
        next_type = draw(logits, uniform[t:t + 1], c.temperature, c.top_p)
        finished = int(next_type) == model.stop
        if finished or t == max_atoms or t == model.max_atoms:
            break
        types = torch.cat([types, next_type])
        cond = model.place_states(h, tokens, types, pos, ptr)[-1:]
        new_pos = model.head.sample(cond, noise[t:t + 1], c.num_steps, c.solver)
        token = model.embedding(next_type, torch.full_like(next_type, t), new_pos)
        tokens, pos = torch.cat([tokens, token]), torch.cat([pos, new_pos])
    return Data(z=torch.tensor(model.elements)[types.cpu()], pos=pos[1:].cpu(), finished=finished)
