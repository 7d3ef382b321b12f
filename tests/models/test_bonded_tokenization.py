import pytest
import torch
from helpers.bonded import canonical_molecules
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.models.bonded_tokenization import read_molecules
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary, atom_types_of
from torch_geometric_inertial.nn.skeleton import skeletons

MOLECULES = canonical_molecules(60)
VOCABULARY = AtomVocabulary(atom_types_of(Batch.from_data_list(MOLECULES)))


def methanol():
    r"""C, O, three hydrogens of C, one of O."""
    u, v = torch.tensor([0, 0, 0, 0, 1]), torch.tensor([1, 2, 3, 4, 5])
    pos = torch.tensor([[0., 0, 0], [1.42, 0, 0], [-.4, 1., 0], [-.4, -.5, .9], [-.4, -.5, -.9], [1.7, .9, 0]])
    return Data(z=torch.tensor([6, 8, 1, 1, 1, 1]), pos=pos, edge_index=torch.stack([torch.cat([u, v]),
                                                                                     torch.cat([v, u])]),
                edge_attr=torch.ones(10, dtype=torch.long), formal_charge=torch.zeros(6, dtype=torch.long))


def water():
    data = methanol()
    return Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0., 0, 0], [.96, 0, 0], [-.24, .93, 0]]),
                edge_index=torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]]), edge_attr=data.edge_attr[:4],
                formal_charge=data.formal_charge[:3])


def read(data, max_atoms=30, max_closures=3):
    return read_molecules(data, VOCABULARY, max_atoms, max_closures)


def test_what_is_read_of_methanol():
    skeleton, pos = read(methanol())
    kinds = [VOCABULARY.atom_types[t] for t in skeleton.graph.types[0].tolist()]
    assert [tuple(kind) for kind in kinds] == [(6, 0, 3, 4), (8, 0, 1, 2)]
    assert skeleton.parent.tolist() == [[0, 0, 0, 0, 0, 1]]
    assert skeleton.graph.order.tolist() == [[[0, 1], [1, 0]]]
    assert pos[0, 0].tolist() == [0, 0, 0]
    assert VOCABULARY.free[skeleton.graph.types[0]].tolist() == [1, 1]


def test_types_alone_give_the_skeleton_back():
    skeleton, _ = read(Batch.from_data_list(MOLECULES))
    rebuilt = skeletons(skeleton.graph, VOCABULARY)
    for name in ('length', 'is_hydrogen', 'parent', 'order'):
        assert torch.equal(getattr(rebuilt, name), getattr(skeleton, name)), name


def test_a_batch_is_its_molecules():
    whole, pos = read(Batch.from_data_list(MOLECULES[:8]))
    for i, data in enumerate(MOLECULES[:8]):
        one, own_pos = read(data)
        n, m = int(one.length), int(one.graph.size)
        assert torch.equal(whole.order[i, :n, :n], one.order[0])
        assert torch.equal(whole.graph.types[i, :m], one.graph.types[0])
        assert torch.equal(pos[i, :n], own_pos[0])


def test_charges_that_are_not_there_are_zero():
    data = methanol()
    del data.formal_charge
    assert torch.equal(read(data)[0].graph.types, read(methanol())[0].graph.types)


def changed(**fields):
    data = methanol()
    for name, value in fields.items():
        data[name] = value
    return data


def with_edge(u, v, order=1):
    data = methanol()
    data.edge_index = torch.cat([data.edge_index, torch.tensor([[u, v], [v, u]])], dim=1)
    data.edge_attr = torch.cat([data.edge_attr, torch.tensor([order, order])])
    return data


def moved(atom, distance):
    pos = methanol().pos
    pos[atom, 0] += distance
    return pos


@pytest.mark.parametrize(('data', 'message'), [
    (Data(z=torch.tensor([6]), pos=torch.zeros(1, 3)), "needs 'edge_index' in its input .* finds bonds"),
    (changed(pos=torch.zeros(6, 2)), r"'pos' \[N, 3\] \(got \(6,\) of torch.int64 and \(6, 2\)"),
    (changed(z=torch.tensor([6., 8, 1, 1, 1, 1])), 'must be whole numbers'),
    (changed(z=torch.tensor([6, 130, 1, 1, 1, 1])), r"'z' must be in 1 … 118 \(got 130\)"),
    (changed(pos=moved(2, torch.nan)), r"'pos' must be finite \(molecule 0, atom 2, H\)"),
    (changed(pos=moved(2, -5.)), r'a bond must be shorter than .* \(molecule 0, atom 0, C\)'),
    (changed(edge_attr=torch.full((10, ), 1.5)), r'must be 1, 2 or 3, aromatic bonds kekulized \(got 1.5 between'),
    (changed(edge_attr=torch.ones(9)), r"'edge_attr' \[E\] bond orders \(got \(2, 10\) and \(9,\)"),
    (changed(edge_index=methanol().edge_index.clamp(max=4) + 2), r"must be in 0 … 5, .* \(got 2 … 6\)"),
    (changed(edge_index=methanol().edge_index * 0), 'must join two different atoms of one molecule'),
    (changed(edge_index=methanol().edge_index[:, :5], edge_attr=torch.ones(5)), 'both directions with one order'),
    (changed(formal_charge=torch.zeros(3)), r"'formal_charge' must be \[6\] \(got \(3,\)\)"),
    (changed(formal_charge=torch.tensor([3, 0, 0, 0, 0, 0])), r'not know C\+3 with 3 hydrogens and valence 4 .*atom 0'),
    (with_edge(2, 3), r'a hydrogen must have one single bond \(molecule 0, atom 2, H\)'),
    (changed(edge_attr=torch.tensor([2, 1, 1, 1, 1, 2, 1, 1, 1, 1])), 'does not know C with 3 hydrogens and valence 5'),
    (changed(z=torch.tensor([6, 1, 1, 1, 1, 8])), r'hydrogens must come after all heavy atoms; .*atom 1, H\)'),
    (changed(z=torch.tensor([1, 1, 1, 1, 1, 1])), 'molecule 0 has no heavy atom'),
])
def test_what_cannot_be_read_is_named(data, message):
    with pytest.raises(ValueError, match=message):
        read(data)


def test_molecules_in_parts_are_refused():
    data = methanol()
    keep = (data.edge_index != 1).all(dim=0)  # without the bonds of O
    data.edge_index, data.edge_attr = data.edge_index[:, keep], data.edge_attr[keep]
    with pytest.raises(ValueError, match=r'bonded to an earlier one, .* \(molecule 0, atom 1, O\)'):
        read(data)


def test_hydrogens_come_in_the_order_of_their_atoms():
    data = methanol()
    perm = torch.tensor([0, 1, 5, 2, 3, 4])
    place = torch.empty_like(perm).index_copy(0, perm, torch.arange(6))
    data.z, data.pos, data.edge_index = data.z[perm], data.pos[perm], place[data.edge_index]
    with pytest.raises(ValueError, match='hydrogens must follow in the order of their atoms'):
        read(data)


def test_limits():
    with pytest.raises(ValueError, match=r"'max_atoms' is 5 \(got molecule 1 of 6 atoms\)"):
        read(Batch.from_data_list([water(), methanol()]), max_atoms=5)
    cage = next(m for m in MOLECULES if int((read(m)[0].graph.order.tril(-1) > 0).sum(dim=2).max()) > 1)
    with pytest.raises(ValueError, match="an atom may close at most 'max_closures' = 0 rings"):
        read(cage, max_closures=0)
