import torch
from helpers.bonded import canonical_molecules, small_network
from torch_geometric.data import Batch

from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.nn.skeleton import BondGraph

NETWORK = small_network()
MOLECULES = canonical_molecules(12, first=20)


def read(molecules):
    return read_molecules(Batch.from_data_list(molecules), NETWORK.vocabulary, 30, 3)[0].graph


def log_prob(graph):
    with torch.no_grad():
        return NETWORK.graph.log_prob(graph, NETWORK.graph_condition(None, graph.size.numel()))


def test_a_batch_is_its_molecules():
    whole = log_prob(read(MOLECULES))
    for i, data in enumerate(MOLECULES):
        one = log_prob(read([data]))
        for name in ('type', 'bond'):
            n = getattr(one, name).size(1)
            torch.testing.assert_close(getattr(whole, name)[i, :n], getattr(one, name)[0])
            assert not getattr(whole, name)[i, n:].any()


def test_decisions_do_not_know_what_follows():
    types, order, _ = read([max(MOLECULES, key=lambda data: int((data.z > 1).sum()))])
    whole = log_prob(BondGraph(types, order, torch.tensor([types.size(1)])))
    for n in range(1, types.size(1)):
        part = log_prob(BondGraph(types[:, :n], order[:, :n, :n], torch.tensor([n])))
        torch.testing.assert_close(part.type[0, :n], whole.type[0, :n])
        torch.testing.assert_close(part.bond[0, :n], whole.bond[0, :n])


def test_probabilities_of_all_types_and_the_end_are_one():
    types, order, _ = read([MOLECULES[0]])
    types, order = types[:, :3], order[:, :3, :3]
    num_types = len(NETWORK.vocabulary)
    last = [log_prob(BondGraph(types.index_fill(1, torch.tensor([2]), t), order, torch.tensor([3]))).type[0, 2]
            for t in range(num_types)]
    stop = log_prob(BondGraph(types[:, :2], order[:, :2, :2], torch.tensor([2]))).type[0, 2]
    assert abs(float(torch.stack([*last, stop]).exp().sum()) - 1) < 1e-5


def test_probabilities_of_all_bonds_of_an_atom_are_one():
    types, order, _ = read([MOLECULES[0]])
    num = 4
    types, order = types[:, :num], order[:, :num, :num].clone()
    total = 0.0
    for code in range(1, 4**(num - 1)):
        new = torch.tensor([code // 4**k % 4 for k in range(num - 1)])
        if int((new > 0).sum()) - 1 > NETWORK.max_closures:
            continue
        order[0, num - 1, :num - 1] = order[0, :num - 1, num - 1] = new
        total += float(log_prob(BondGraph(types, order, torch.tensor([num]))).bond[0, num - 1].exp())
    assert abs(total - 1) < 1e-5


def test_a_molecule_is_not_empty():
    types, order, _ = read([MOLECULES[0]])
    first = [float(log_prob(BondGraph(torch.full_like(types[:, :1], t), order[:, :1, :1],
                                      torch.tensor([1]))).type[0, 0].exp()) for t in range(len(NETWORK.vocabulary))]
    assert abs(sum(first) - 1) < 1e-5


def test_free_valences_of_ethene():
    vocabulary = NETWORK.vocabulary
    carbon = vocabulary.index(*torch.tensor([[6], [0], [2], [4]]))
    graph = BondGraph(carbon.repeat(2).view(1, 2), torch.tensor([[[0, 2], [2, 0]]]), torch.tensor([2]))
    assert NETWORK.graph.free_valences(graph).tolist() == [[[2, 0], [0, 0]]]


def test_molecules_in_the_order_of_a_walk_have_another_first_token():
    network = small_network()
    torch.nn.init.normal_(network.graph.walk)
    condition = network.graph_condition(None, len(MOLECULES))
    walked = torch.arange(len(MOLECULES)) % 2 == 0
    begin = network.graph.begin(condition, walked)
    assert torch.equal(begin[~walked], condition[~walked])
    torch.testing.assert_close(begin[walked], condition[walked] + network.graph.walk)
    assert torch.equal(network.graph.begin(condition, None), condition)


def test_every_parameter_learns():
    network = small_network()
    begin = network.graph.begin(network.graph_condition(None, len(MOLECULES)), torch.ones(len(MOLECULES)))
    loss = network.graph.log_prob(read(MOLECULES), begin)
    (loss.type.sum() + loss.bond.sum()).backward()
    assert [name for name, p in network.graph.named_parameters() if p.grad is None or not p.grad.any()] == []
