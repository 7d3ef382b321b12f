r"""Which graph a scaffold grows into, given where its atoms are.

A graph is written without a look at places, so one around a scaffold may ask of its atoms what their places do not
allow, such as a bridge across a flat ring. So several graphs :math:`G` are written and one of them is drawn by the
density that it gives to the places :math:`x` of the scaffold's heavy atoms (sampling importance resampling, Rubin
1988),

.. math::
    p(G \mid S, x) \propto p(G \mid S) \prod_{t=1}^{F} p(x_t \mid x_{<t}, G),

with the bound of :meth:`~torch_geometric_inertial.nn.DiffusionHead.log_prob_bound` for the densities.
"""
from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from torch_geometric_inertial.generation.bond_model import BondModel, WrittenGraph
from torch_geometric_inertial.generation.bond_scaffold import BondScaffold
from torch_geometric_inertial.generation.draws import draw
from torch_geometric_inertial.generation.graph_stepper import begin_tokens
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.scaffold_types import settle_scaffolds
from torch_geometric_inertial.nn.skeleton import BondGraph, skeletons

NUM_GRAPHS = 8  #: Per molecule, of which one is drawn.
AT_ONCE = 32  #: Molecules whose graphs are compared together.
#: Between the numbers of the graphs of one molecule: above the number of any, and odd, as PyTorch's generators on the
#: CPU look at the last 32 bits of a seed.
STRIDE = 2**40 + 0x9E3779B1


def several_graphs(model: BondModel, requests: Iterable[GenerationRequest], sampling: SamplingConfig,
                   seed: int) -> Iterator[GenerationRequest]:
    r"""Each request with its scaffold settled, as many times as graphs are compared, with numbers that
    :func:`choose_graphs` knows."""
    source = iter(requests)
    while some := list(islice(source, 1)):
        if some[0].scaffold is not None:
            some += islice(source, AT_ONCE - 1)
        for settled in settle_scaffolds(model, some, sampling, seed, NUM_GRAPHS):
            for k, request in enumerate(settled):
                yield replace(request, index=request.index + k * STRIDE)


def choose_graphs(model: BondModel, graphs: Iterable[WrittenGraph], sampling: SamplingConfig,
                  seed: int) -> Iterator[WrittenGraph]:
    r"""One graph per molecule, of those that were written for :func:`several_graphs`, in their order."""
    waiting: list[WrittenGraph] = []
    for graph in graphs:
        scaffold = graph.request.scaffold
        if not isinstance(scaffold, BondScaffold) or scaffold.whole:
            yield graph
            continue
        waiting.append(graph)
        if len(waiting) == NUM_GRAPHS * AT_ONCE:
            yield from _choose(model, waiting, sampling, seed)
            waiting = []
    if waiting:
        yield from _choose(model, waiting, sampling, seed)


def _choose(model: BondModel, graphs: list[WrittenGraph], sampling: SamplingConfig,
            seed: int) -> Iterator[WrittenGraph]:
    numbers = [graph.index % STRIDE for graph in graphs[::NUM_GRAPHS]]
    noise, uniform = [], []
    for graph, number in zip(graphs[::NUM_GRAPHS], numbers, strict=True):
        generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + number * 0xD1B54A32D192ED03 + 4) % 2**63)
        uniform.append(torch.rand(1, generator=generator))
        noise += [torch.randn(graph.request.scaffold.given.num_nodes, 3, generator=generator)] * NUM_GRAPHS
    score = scaffold_log_prob(model, graphs, sampling, noise).view(len(numbers), NUM_GRAPHS)
    chosen = draw(score - score.amax(dim=1, keepdim=True), torch.cat(uniform).to(score))
    for i, (k, number) in enumerate(zip(chosen.tolist(), numbers, strict=True)):
        graph = graphs[i * NUM_GRAPHS + k]
        yield replace(graph, index=number, request=replace(graph.request, index=number))


@torch.no_grad()
def scaffold_log_prob(model: BondModel, graphs: list[WrittenGraph], sampling: SamplingConfig,
                      noise: list[Tensor]) -> Tensor:
    r"""A bound of the log-density of the places of each scaffold's heavy atoms in its graph, up to a constant [B].

    Args:
        model (BondModel): The model, in evaluation mode.
        graphs (list): Graphs that begin with the scaffold of their request.
        sampling (SamplingConfig): Whether there are conditions.
        noise (list): Standard normal numbers for each atom of what was given [N, 3], per graph.
    """
    begin = begin_tokens(model.place_condition, [graph.request for graph in graphs], sampling)[::sampling.branches]
    device, num = begin.device, len(graphs)
    size = torch.tensor([graph.types.numel() for graph in graphs], device=device)
    types = size.new_zeros(num, int(size.max()))
    order = size.new_zeros(num, types.size(1), types.size(1))
    pos, epsilon = begin.new_zeros(num, types.size(1), 3), begin.new_zeros(num, types.size(1), 3)
    given = size.new_zeros(num)
    for r, graph in enumerate(graphs):
        m, scaffold = graph.types.numel(), graph.request.scaffold
        f = given[r] = min(m, scaffold.num_heavy)
        types[r, :m], order[r, :m, :m] = graph.types, graph.order
        pos[r, :f], epsilon[r, :f] = (scaffold.pos - scaffold.pos[0])[:f].to(pos), noise[r][scaffold.index[:f]].to(pos)
    skeleton = skeletons(BondGraph(types, order, size), model.vocabulary)
    slot = torch.arange(types.size(1), device=device)
    row, slot = ((slot > 0) & (slot < given.unsqueeze(1))).nonzero(as_tuple=True)
    if row.numel() == 0:  # of single atoms
        return begin.new_zeros(num, dtype=torch.float64)
    padding = skeleton.parent.size(1) - types.size(1)
    place = model.placer.context(skeleton, model.placer.encode(skeleton, begin),
                                 torch.nn.functional.pad(pos, (0, 0, 0, padding)), row, slot)
    local = place.frame.to_local(pos[row, slot])
    turned = (epsilon[row, slot].unsqueeze(1) @ place.frame.axes).squeeze(1)
    bound = model.placer.head.log_prob_bound(local, place.cond, turned, place.around)
    return bound.new_zeros(num).index_add(0, row, bound)
