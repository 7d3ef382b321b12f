r"""How a molecule is drawn, told once without caches, batches, guidance or scaffolds: to read, and to test against.

Every step runs the networks over the whole sequence again. What the steppers do quickly must come to the same.
"""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation.atom_model import AtomModel
from torch_geometric_inertial.generation.bond_model import BondModel, written_molecule
from torch_geometric_inertial.generation.draws import draw, random_numbers
from torch_geometric_inertial.generation.graph_stepper import graph_numbers
from torch_geometric_inertial.generation.place_stepper import place_numbers
from torch_geometric_inertial.generation.requests import SamplingConfig
from torch_geometric_inertial.nn.bond_distances import bond_distances, prefix_distances
from torch_geometric_inertial.nn.skeleton import BondGraph, skeletons


@torch.no_grad()
def generate_plainly(model: AtomModel, index: int = 0, seed: int = 0, *, sampling: SamplingConfig | None = None,
                     conditions: dict[str, Tensor] | None = None, max_atoms: int | None = None,
                     paths: list[Tensor] | None = None) -> Data:
    r"""Molecule :obj:`index` of :meth:`~torch_geometric_inertial.models.AtomAutoregressor.generate`, atom by atom; the
    model must be in evaluation mode, and :obj:`conditions` are [1, ...], by name. :obj:`paths` takes the way of each
    atom from noise to its place [S, 3], Å."""
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
        way: list[Tensor] = []
        new_pos = model.head.sample(cond, c.place_temperature * noise[t:t + 1], c.num_steps, c.solver, path=way)
        if paths is not None:
            paths.append(torch.cat([*way, new_pos]).cpu())
        token = model.embedding(next_type, torch.full_like(next_type, t), new_pos)
        tokens, pos = torch.cat([tokens, token]), torch.cat([pos, new_pos])
    return Data(z=torch.tensor(model.elements)[types.cpu()], pos=pos[1:].cpu(), finished=finished)


@torch.no_grad()
def write_plainly(model: BondModel, index: int = 0, seed: int = 0, *, sampling: SamplingConfig | None = None,
                  conditions: dict[str, Tensor] | None = None, paths: list[Tensor] | None = None) -> Data:
    r"""The same of a model that writes the bond graph first, then the places; the first atom is the origin."""
    c, vocabulary = SamplingConfig() if sampling is None else sampling, model.vocabulary
    graph, finished = _write_graph(model, index, seed, c, conditions)
    skeleton = skeletons(graph, vocabulary)
    encoded = model.placer.encode(skeleton, model.place_condition(conditions, 1))
    noise = c.place_temperature * place_numbers(seed, index, int(skeleton.length)).to(encoded.atom)
    pos = torch.zeros_like(noise).unsqueeze(0)  # the first atom is the origin
    if paths is not None:
        paths.append(pos[0, :1].cpu())
    for t in range(1, pos.size(1)):
        place = model.placer.context(skeleton, encoded, pos, torch.tensor([0]), torch.tensor([t]))
        way: list[Tensor] = []
        local = model.placer.head.sample(place.cond, noise[t:t + 1], c.num_steps, c.solver, neighbors=place.around,
                                         path=way)
        pos[:, t] = place.frame.to_global(local)
        if paths is not None:
            paths.append(torch.cat([place.frame.to_global(x) for x in (*way, local)]).cpu())
    return written_molecule(vocabulary, graph.types[0], skeleton.order[0], pos[0], finished)


def _write_graph(model: BondModel, index: int, seed: int, c: SamplingConfig,
                 conditions: dict[str, Tensor] | None) -> tuple[BondGraph, bool]:
    r"""The heavy atoms and their bonds, and whether the model ended the molecule."""
    network, vocabulary = model.graph, model.vocabulary
    uniform = graph_numbers(seed, index, model.max_atoms, network.bonds.max_closures)
    begin = model.graph_condition(conditions, 1)
    graph = BondGraph(torch.zeros(1, 0, dtype=torch.long), torch.zeros(1, 0, 0, dtype=torch.long), torch.tensor([0]))
    while True:
        count = int(graph.size)
        hidden = network.encode(graph, begin, prefix_distances(graph.order).own)
        logits = network.type_logits(hidden[:, -1])
        logits = network.never_stop(logits) if count == 0 else logits
        next_type = draw(logits, uniform[count, :1], c.temperature, c.top_p)
        if int(next_type) == network.stop:
            return graph, True
        total = 1 + int(vocabulary.hydrogens[next_type]) + count + int(vocabulary.hydrogens[graph.types].sum())
        if total > model.max_atoms:
            return graph, False
        new = _draw_bonds(model, graph, network.bond_norm(hidden), next_type, uniform[count, 1:], c.temperature)
        order = torch.nn.functional.pad(graph.order, (0, 1, 0, 1))
        order[0, count, :count] = order[0, :count, count] = new
        graph = BondGraph(torch.cat([graph.types, next_type.unsqueeze(0)], dim=1), order, graph.size + 1)


def _draw_bonds(model: BondModel, graph: BondGraph, hidden: Tensor, new_type: Tensor, uniform: Tensor,
                temperature: float) -> Tensor:
    r"""Orders of the bonds of an atom to those before it [M]: to its parent, then to those that it closes rings to."""
    bonds, memory, count = model.graph.bonds, hidden[:, 1:], int(graph.size)
    new, slot = torch.zeros(count, dtype=torch.long), torch.arange(count)
    if count == 0:
        return new
    left = model.vocabulary.free[new_type]
    free = model.vocabulary.free[graph.types] - graph.order.sum(dim=1)
    query = bonds.start(hidden[:, -1], new_type, left)
    parent = draw(bonds.parent_logits(query, bonds.parent_key(memory), free, (slot >= 0).unsqueeze(0)), uniform[:1],
                  temperature)
    query, logits = bonds.attach(query, memory[:, int(parent)], free[:, int(parent)])
    order = draw(logits, uniform[1:2], temperature) + 1
    new[parent], last = order, -1
    features = bonds.closure_features(free, bond_distances(graph.order)[:, int(parent)])
    for step in range(bonds.max_closures):
        left = left - order
        query = bonds.take_order(query, order, left)
        allowed = ((slot > last) & (slot < parent)).unsqueeze(0)
        logits = bonds.closure_logits(query, step, bonds.closure_key(memory), features, allowed)
        partner = draw(logits, uniform[2 + 2 * step:3 + 2 * step], temperature) - 1
        if int(partner) < 0:
            break
        query, logits = bonds.close(query, memory[:, int(partner)], free[:, int(partner)])
        order = draw(logits, uniform[3 + 2 * step:4 + 2 * step], temperature) + 1
        new[partner], last = order, int(partner)
    return new
