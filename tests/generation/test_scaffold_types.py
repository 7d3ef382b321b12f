import itertools

import torch
from helpers.bonded import canonical_molecules, small_network
from torch_geometric.data import Data

from torch_geometric_inertial.generation import BondScaffold
from torch_geometric_inertial.generation.requests import GenerationRequest, SamplingConfig
from torch_geometric_inertial.generation.scaffold_types import settle_scaffolds
from torch_geometric_inertial.nn.skeleton import BondGraph

NETWORK = small_network(dtype=torch.float32)
PAIR = Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, 0], [1.4, 0, 0]]),
            edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.tensor([1, 1]))


def scaffold(data, whole=False):
    return BondScaffold.of(data, NETWORK.vocabulary, whole, 30)


def settle(requests, seed=0):
    return [settled for settled, in settle_scaffolds(NETWORK, requests, SamplingConfig(), seed)]


@torch.no_grad()
def exact_posterior(given):
    """Of (first atom, its type, the other's type), by enumeration: both orders are as likely before the types."""
    weight = {}
    begin = NETWORK.graph.begin(NETWORK.graph_condition(None, 1), torch.ones(1))
    for first in (0, 1):
        walk = given.reorder(torch.tensor([first, 1 - first]))
        options = [row.nonzero().flatten().tolist() for row in walk.allowed]
        for types in itertools.product(*options):
            log_prob = NETWORK.graph.log_prob(BondGraph(torch.tensor([types]), walk.order.unsqueeze(0),
                                                        torch.tensor([2])), begin)
            weight[(first, *types)] = float((log_prob.type[0, :2].sum() + log_prob.bond.sum()).exp())
    total = sum(weight.values())
    return {key: value / total for key, value in weight.items()}


def test_order_and_types_are_drawn_from_their_posterior():
    given, num = scaffold(PAIR), 4000
    expected = exact_posterior(given)
    found = dict.fromkeys(expected, 0.0)
    for request in settle([GenerationRequest(i, 30, None, given) for i in range(num)]):
        walk = request.scaffold
        assert walk.allowed.sum(dim=1).tolist() == [1, 1]  # settled
        found[(int(walk.index[0]), *walk.allowed.long().argmax(dim=1).tolist())] += 1 / num
    distance = sum(abs(found[key] - expected[key]) for key in expected) / 2
    blind = sum(abs(1 / len(expected) - value) for value in expected.values()) / 2
    assert distance < 0.06 < blind  # a draw of 4,000 from the truth is off by 0.03 or so


def test_a_molecule_does_not_depend_on_those_beside_it():
    part = canonical_molecules(1, first=40)[0]
    heavy = part.z > 1
    edge = part.edge_index[:, heavy[part.edge_index].all(dim=0)]
    order = part.edge_attr[heavy[part.edge_index].all(dim=0)]
    given = scaffold(Data(z=part.z[heavy], pos=part.pos[heavy], edge_index=edge, edge_attr=order,
                          formal_charge=part.formal_charge[heavy]))
    requests = [GenerationRequest(i, 30, None, given if i % 2 else scaffold(PAIR)) for i in range(6)]
    together = settle(requests, seed=3)
    for request, whole in zip(requests, together, strict=True):
        alone, = settle([request], seed=3)
        assert torch.equal(alone.scaffold.index, whole.scaffold.index)
        assert torch.equal(alone.scaffold.allowed, whole.scaffold.allowed)


def test_what_lacks_only_hydrogens_gets_an_order_and_what_has_no_scaffold_stays():
    given = scaffold(PAIR, whole=True)
    free = GenerationRequest(1, 30)
    settled, same = settle([GenerationRequest(0, 30, None, given), free])
    assert same is free
    assert sorted(settled.scaffold.index.tolist()) == [0, 1]
    assert torch.equal(settled.scaffold.allowed, given.allowed[settled.scaffold.index])
