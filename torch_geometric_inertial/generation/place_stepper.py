r"""Places of the atoms of bond graphs: one step draws the place of one atom of each molecule in the batch."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.generation.bond_model import BondModel, WrittenGraph, written_molecule
from torch_geometric_inertial.generation.bond_scaffold import BondScaffold
from torch_geometric_inertial.generation.graph_stepper import begin_tokens
from torch_geometric_inertial.generation.requests import SamplingConfig
from torch_geometric_inertial.generation.rows import Rows, join_rows, keep_rows
from torch_geometric_inertial.nn.pair_field import NeighborContext
from torch_geometric_inertial.nn.skeleton import BondGraph, EncodedSkeleton, Skeleton, skeletons


def place_numbers(seed: int, index: int, num_atoms: int) -> Tensor:
    r"""Normal numbers of the places of molecule :math:`i` [N, 3], a function of (seed, i)."""
    generator = torch.Generator().manual_seed((seed * 0x9E3779B97F4A7C15 + index * 0xD1B54A32D192ED03 + 2) % 2**63)
    return torch.randn(num_atoms, 3, generator=generator, dtype=torch.float32)


class PlaceStepper:
    r"""The :class:`~torch_geometric_inertial.generation.engine.Stepper` of places; its requests are the results of
    :class:`~torch_geometric_inertial.generation.graph_stepper.GraphStepper`. Branches are as there.

    Args:
        model (BondModel): The model, in evaluation mode.
        sampling (SamplingConfig): How places are drawn.
        seed (int): With the number of its request it settles a molecule.
    """
    def __init__(self, model: BondModel, sampling: SamplingConfig, seed: int):
        self.model, self.sampling, self.seed = model, sampling, seed
        self.branches = sampling.branches
        self.graphs: list[WrittenGraph] = []
        self.state: Rows | None = None
        self.slots: dict[int, Tensor] = {}  # of the scaffold's atoms, by the number of the request

    @torch.no_grad()
    def enter(self, requests: list[WrittenGraph]) -> None:
        model, num = self.model, len(requests)
        begin = begin_tokens(model.place_condition, [graph.request for graph in requests], self.sampling)
        size = torch.tensor([graph.types.numel() for graph in requests], device=begin.device)
        types = size.new_zeros(num, int(size.max()))
        order = size.new_zeros(num, types.size(1), types.size(1))
        for r, graph in enumerate(requests):
            m = graph.types.numel()
            types[r, :m], order[r, :m, :m] = graph.types, graph.order
        split = [x.repeat_interleave(self.branches, dim=0) for x in (types, order, size)]
        skeleton = skeletons(BondGraph(*split), model.vocabulary)
        encoded = model.placer.encode(skeleton, begin)
        one = slice(None, None, self.branches)
        length, width = skeleton.length[one], skeleton.parent.size(1)
        noise = torch.zeros(num, width, 3)
        for r, graph in enumerate(requests):
            noise[r, :int(length[r])] = place_numbers(self.seed, graph.index, int(length[r]))
        fixed = length.new_zeros(num, width, dtype=torch.bool)
        pos = begin.new_zeros(num, width, 3)
        for r, graph in enumerate(requests):
            if isinstance(graph.request.scaffold, BondScaffold):
                slots, given = graph.request.scaffold.places(skeleton.parent[one][r], int(size[r]), int(length[r]))
                fixed[r, slots], pos[r, slots] = True, given.to(pos)
                self.slots[graph.index] = slots
        state = dict(
            count=torch.ones_like(length), length=length, size=size, pos=pos, fixed=fixed,
            noise=self.sampling.place_temperature * noise.to(pos),
            parent=skeleton.parent[one], order=skeleton.order[one], is_hydrogen=skeleton.is_hydrogen[one],
            types=types, sibling=encoded.sibling[one], distance=encoded.distance[one],
            atom=encoded.atom.view(num, self.branches, width, -1), key=encoded.key.view(num, self.branches, width, -1))
        self.state = join_rows(self.state, state)
        self.graphs += requests

    @torch.no_grad()
    def step(self) -> dict[int, Data]:
        done = self._leave()
        state = self.state
        if state is None:
            return done
        count = state['count']
        row = torch.arange(count.numel(), device=count.device)
        free = (~state['fixed'][row, count]).nonzero().flatten()
        if free.numel() > 0:
            state['pos'][free, count[free]] = self._draw(free)
        state['count'] += 1
        return done

    def _draw(self, rows: Tensor) -> Tensor:
        r"""The places of the next atoms of molecules :obj:`rows` [T]: [T, 3]."""
        assert self.state is not None
        state, branches, placer = keep_rows(self.state, rows), self.branches, self.model.placer
        count = state['count']

        def split(name: str) -> Tensor:
            return state[name].repeat_interleave(branches, dim=0)

        graph = BondGraph(split('types'), split('order'), split('size'))
        skeleton = Skeleton(graph, split('length'), split('is_hydrogen'), split('parent'), graph.order)
        encoded = EncodedSkeleton(state['atom'].flatten(0, 1), state['key'].flatten(0, 1), split('sibling'),
                                  split('distance'))
        both = torch.arange(rows.numel() * branches, device=rows.device)
        place = placer.context(skeleton, encoded, split('pos'), both, split('count'))
        cond, around, guidance = place.cond, place.around, None
        if branches == 2:
            null = NeighborContext(*(x[1::2] for x in around))
            guidance = (cond[1::2], null, self.sampling.guidance_scale)
            cond, around = cond[0::2], NeighborContext(*(x[0::2] for x in around))
        noise = state['noise'][torch.arange(rows.numel(), device=rows.device), count]
        local = placer.head.sample(cond, noise, self.sampling.num_steps, self.sampling.solver, neighbors=around,
                                   guidance=guidance)
        frame = type(place.frame)(*(x[0::branches] for x in place.frame))
        return frame.to_global(local)

    def _leave(self) -> dict[int, Data]:
        state = self.state
        if state is None:
            return {}
        whole = state['count'] >= state['length']
        if not bool(whole.any()):
            return {}
        done = {self.graphs[r].index: self._molecule(r) for r in whole.nonzero().flatten().tolist()}
        keep = (~whole).nonzero().flatten()
        self.graphs = [self.graphs[r] for r in keep.tolist()]
        self.state = keep_rows(state, keep) if keep.numel() > 0 else None
        return done

    def _molecule(self, r: int) -> Data:
        assert self.state is not None
        graph, state = self.graphs[r], self.state
        length, size = int(state['length'][r]), int(state['size'][r])
        data = written_molecule(self.model.vocabulary, state['types'][r, :size], state['order'][r, :length, :length],
                                state['pos'][r, :length], graph.finished)
        scaffold = graph.request.scaffold
        if isinstance(scaffold, BondScaffold):
            return scaffold.put_back(data, self.slots.pop(graph.index))
        return data
