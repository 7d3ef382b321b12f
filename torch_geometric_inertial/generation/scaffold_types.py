r"""The types of a scaffold's atoms and the order in which they are written, given the bonds between them.

Which types its atoms have (how many hydrogens they bear, how many further bonds they take) is not given, and neither is
the order in which a model would come to them. Both are drawn from the posterior

.. math::
    p(\pi, a \mid S) \propto q(\pi) \prod_{t=1}^{F} p(a_t \mid G_{<t})\, p(\text{bonds of } t \mid a_t, G_{<t})

where the bonds are those of the scaffold :math:`S` in the order :math:`\pi` of a walk. Types are drawn one after the
other from those that fit, which does not look ahead: an atom may be given valences that the next atoms do not take. So
candidates are weighted by what they leave out, the probability of the types that fit and that of the bonds that are
given, and drawn by these weights (sampling importance resampling, Rubin 1988). It is exact in the limit of many.
"""
from __future__ import annotations

from collections import defaultdict
from dataclasses import replace

import torch
from torch import Tensor, nn

from torch_geometric_inertial.generation.bond_model import BondModel
from torch_geometric_inertial.generation.bond_scaffold import BondScaffold
from torch_geometric_inertial.generation.draws import draw
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.nn.bond_distances import prefix_distances
from torch_geometric_inertial.nn.skeleton import BondGraph

NUM_CANDIDATES = 32  #: Orders and types per molecule, of which one is drawn.
MOST_ROWS = 2048  #: Candidates that are in memory at a time.


def settle_scaffolds(model: BondModel, requests: list[GenerationRequest], sampling: SamplingConfig, seed: int,
                     num_draws: int = 1) -> list[list[GenerationRequest]]:
    r"""The requests with their scaffolds in the order in which they will be written and, where they are to grow, with
    one type for each of their atoms: :obj:`num_draws` times each, else once. A function of (seed, number)."""
    by_size = defaultdict(list)
    out, step = [[request] for request in requests], MOST_ROWS // NUM_CANDIDATES
    for i, request in enumerate(requests):
        if isinstance(request.scaffold, BondScaffold):
            if request.scaffold.whole:
                walk = request.scaffold.walk(walk_generator(seed, request.index))
                out[i] = [replace(request, scaffold=walk)]
            else:
                by_size[request.scaffold.num_heavy].append(i)
    for members in by_size.values():
        for start in range(0, len(members), step):
            some = members[start:start + step]
            drawn = _draw(model, [requests[i] for i in some], sampling, seed, num_draws)
            for i, scaffolds in zip(some, drawn, strict=True):
                out[i] = [replace(requests[i], scaffold=scaffold) for scaffold in scaffolds]
    return out


def walk_generator(seed: int, index: int) -> torch.Generator:
    r"""Where the order of a scaffold's atoms in molecule :math:`i` comes from, a function of (seed, i)."""
    return torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 3) % 2**63)


@torch.no_grad()
def _draw(model: BondModel, requests: list[GenerationRequest], sampling: SamplingConfig, seed: int,
          num_draws: int) -> list[list[BondScaffold]]:
    r"""Of scaffolds that have the same number of heavy atoms."""
    graph, vocabulary = model.graph, model.vocabulary
    walks, limits, uniform, choice = list[BondScaffold](), list[int](), list[Tensor](), list[Tensor]()
    for request in requests:
        assert isinstance(request.scaffold, BondScaffold)
        generator = walk_generator(seed, request.index)
        walks += [request.scaffold.walk(generator) for _ in range(NUM_CANDIDATES)]
        limits += [request.max_atoms] * NUM_CANDIDATES
        uniform.append(torch.rand(NUM_CANDIDATES, walks[-1].num_heavy, generator=generator))
        choice.append(torch.rand(num_draws, generator=generator))
    conditions = None
    if requests[0].conditions is not None and sampling.guidance_scale != 0:
        conditions = {name: torch.stack([r.conditions[name] for r in requests if r.conditions])
                      for name in requests[0].conditions}
    begin = model.graph_condition(conditions, len(requests)).repeat_interleave(NUM_CANDIDATES, dim=0)
    begin = graph.begin(begin, torch.ones(len(walks), device=begin.device))
    device, num, size = begin.device, len(walks), walks[0].num_heavy
    order = torch.stack([walk.order for walk in walks]).to(device)
    numbers = torch.cat(uniform).to(device)
    hydrogens = vocabulary.hydrogens.cpu()
    types = torch.zeros(num, size, dtype=torch.long, device=device)
    total, weight = torch.zeros(num, dtype=torch.long), torch.zeros(num, device=device)
    for t in range(size):
        prefix = BondGraph(types[:, :t], order[:, :t, :t], torch.full((num, ), t, device=device))
        logits = graph.type_logits(graph.encode(prefix, begin, prefix_distances(prefix.order).own)[:, -1])
        logits = graph.never_stop(logits) if t == 0 else logits
        allowed = torch.stack([_allowed(walk, t, limit - int(n), hydrogens)
                               for walk, limit, n in zip(walks, limits, total, strict=True)]).to(device)
        left = logits.log_softmax(dim=-1).masked_fill(~allowed, -torch.inf)
        weight += left.logsumexp(dim=-1).clamp(min=-1e4)  # none is left where the molecule is too long: cut there
        left = torch.where(allowed.any(dim=-1, keepdim=True), left, logits)
        types[:, t] = draw(left, numbers[:, t], sampling.temperature, sampling.top_p).clamp(max=graph.stop - 1)
        total += 1 + hydrogens[types[:, t].cpu()]
    whole = BondGraph(types, order, torch.full((num, ), size, device=device))
    weight += graph.log_prob(whole, begin).bond.sum(dim=1)
    weight = weight.view(len(requests), NUM_CANDIDATES).repeat_interleave(num_draws, dim=0)
    chosen = draw(weight, torch.cat(choice).to(device)).cpu().view(len(requests), num_draws)
    rows = (torch.arange(len(requests)).unsqueeze(1) * NUM_CANDIDATES + chosen).tolist()
    return [[_settled(walks[row], types[row].cpu(), hydrogens) for row in some] for some in rows]


def _allowed(walk: BondScaffold, count: int, room: int, hydrogens: Tensor) -> Tensor:
    allowed = walk.allowed_types(count, room, hydrogens)
    assert allowed is not None  # not all atoms of the scaffold are written
    return allowed


def _settled(walk: BondScaffold, types: Tensor, hydrogens: Tensor) -> BondScaffold:
    one = nn.functional.one_hot(types, walk.allowed.size(1)).bool()
    return replace(walk, allowed=one & walk.allowed, fewest=hydrogens[types])
