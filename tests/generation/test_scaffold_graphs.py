import math
from dataclasses import replace

import torch
from helpers.bonded import small_network
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.generation import BondScaffold, scaffold_graphs
from torch_geometric_inertial.generation.bond_model import WrittenGraph
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.scaffold_graphs import (
    NUM_GRAPHS,
    STRIDE,
    choose_graphs,
    scaffold_log_prob,
    several_graphs,
)

NETWORK = small_network(dtype=torch.float32)
CHAIN = Data(z=torch.tensor([6, 6, 8]), pos=torch.tensor([[0.0, 0, 0], [1.5, 0, 0], [2.0, 1.3, 0]]),
             edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]), edge_attr=torch.tensor([1, 1, 1, 1]))


def request(index, data=CHAIN, whole=False):
    return GenerationRequest(index, 30, None, BondScaffold.of(data, NETWORK.vocabulary, whole, 30))


def graph(request, closed):
    """Of the scaffold and one more carbon, which closes a ring or does not."""
    scaffold = request.scaffold
    order = torch.zeros(4, 4, dtype=torch.long)
    order[:3, :3] = scaffold.order
    order[3, 2] = order[2, 3] = 1
    order[3, 0] = order[0, 3] = int(closed)
    carbon = int((NETWORK.vocabulary.z == 6).nonzero()[0])
    types = torch.cat([scaffold.allowed.long().argmax(dim=1), torch.tensor([carbon])])
    return WrittenGraph(request.index, types, order, True, request)


def test_a_molecule_has_several_graphs_with_numbers_of_their_own():
    free, given = GenerationRequest(7, 30), request(3)
    assert list(several_graphs(NETWORK, [free], SamplingConfig(), 0)) == [free]
    whole, = several_graphs(NETWORK, [request(4, whole=True)], SamplingConfig(), 0)
    assert whole.index == 4 and sorted(whole.scaffold.index.tolist()) == [0, 1, 2]
    several = list(several_graphs(NETWORK, [given, request(5)], SamplingConfig(), 0))
    assert [one.index for one in several] == [i + k * STRIDE for i in (3, 5) for k in range(NUM_GRAPHS)]
    assert all(one.scaffold.allowed.sum(dim=1).tolist() == [1, 1, 1] for one in several)  # settled
    # the same 32 bits would be the same graph
    assert len({(one.index * 0xD1B54A32D192ED03) % 2**32 for one in several}) == 2 * NUM_GRAPHS


def test_graphs_are_drawn_by_what_they_say_of_the_places(monkeypatch):
    num, given = 4000, request(0)
    graphs = [WrittenGraph(i + k * STRIDE, torch.zeros(3, dtype=torch.long), given.scaffold.order, True,
                           replace(given, index=i + k * STRIDE)) for i in range(num) for k in range(NUM_GRAPHS)]
    for k, one in enumerate(graphs):
        one.types[:] = k % NUM_GRAPHS  # a mark
    monkeypatch.setattr(scaffold_graphs, 'scaffold_log_prob', lambda model, graphs, sampling, noise: torch.tensor(
        [-300 + math.log(1.0 + int(one.types[0])) for one in graphs], dtype=torch.float64))
    chosen = list(choose_graphs(NETWORK, graphs, SamplingConfig(), 0))
    assert [one.index for one in chosen] == [one.request.index for one in chosen] == list(range(num))
    found = torch.bincount(torch.stack([one.types[0] for one in chosen]), minlength=NUM_GRAPHS) / num
    expected = torch.arange(1.0, NUM_GRAPHS + 1) / sum(range(1, NUM_GRAPHS + 1))
    assert float((found - expected).abs().sum()) < 0.06
    again = list(choose_graphs(NETWORK, graphs[-NUM_GRAPHS:], SamplingConfig(), 0))
    assert torch.equal(again[0].types, chosen[-1].types)  # whatever is beside it


def test_the_bound_does_not_depend_on_where_the_scaffold_is():
    moved = Data(z=CHAIN.z, pos=CHAIN.pos + 5, edge_index=CHAIN.edge_index, edge_attr=CHAIN.edge_attr)
    noise = [torch.randn(3, 3, generator=torch.Generator().manual_seed(1))]
    a, b = (scaffold_log_prob(NETWORK, [graph(request(0, data), True)], SamplingConfig(), noise)
            for data in (CHAIN, moved))
    torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_single_atoms_have_no_places_to_compare():
    atom = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3), edge_index=torch.zeros(2, 0, dtype=torch.long),
                edge_attr=torch.zeros(0, dtype=torch.long))
    one = request(0, atom)
    written = WrittenGraph(0, one.scaffold.allowed.long().argmax(dim=1), one.scaffold.order, True, one)
    assert scaffold_log_prob(NETWORK, [written], SamplingConfig(), [torch.zeros(1, 3)]).tolist() == [0.0]


def test_no_bridges_across_a_flat_ring():
    """Graphs that nobody compares with the places have one in 12 molecules of 100."""
    angle = torch.arange(6) * torch.pi / 3
    ring = Data(z=torch.full((6, ), 6), pos=1.39 * torch.stack([angle.cos(), angle.sin(), 0 * angle], dim=1))
    molecules = InertialAR.from_pretrained('qm9').complete(ring, 40)
    bridged = 0
    for data in molecules:
        outside = data.edge_index[:, (data.edge_index[0] < 6) & (data.edge_index[1] >= 6)]
        heavy = outside[:, data.z[outside[1]] > 1]
        bridged += bool((torch.bincount(heavy[1]) > 1).any())
    assert len(Batch.from_data_list(molecules)) == 40 and bridged <= 2
