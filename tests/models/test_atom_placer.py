import torch
from helpers.bonded import canonical_molecules, small_network, turned
from torch_geometric.data import Batch

from torch_geometric_inertial.frames import random_rotations
from torch_geometric_inertial.models.bonded_tokenization import read_molecules

NETWORK = small_network()
MOLECULES = canonical_molecules(6, first=30)
for molecule in MOLECULES:
    molecule.pos = molecule.pos.double()


def read(molecules):
    skeleton, pos = read_molecules(Batch.from_data_list(molecules), NETWORK.vocabulary, 30, 3)
    return skeleton, pos


def contexts(skeleton, pos):
    with torch.no_grad():
        encoded = NETWORK.placer.encode(skeleton, NETWORK.place_condition(None, pos.size(0)))
        slot = torch.arange(pos.size(1))
        row, slot = ((slot > 0) & (slot < skeleton.length.unsqueeze(1))).nonzero(as_tuple=True)
        return row, slot, NETWORK.placer.context(skeleton, encoded, pos, row, slot)


def test_a_batch_is_its_molecules():
    row, _, whole = contexts(*read(MOLECULES))
    for i, data in enumerate(MOLECULES):
        _, _, one = contexts(*read([data]))
        torch.testing.assert_close(whole.cond[row == i], one.cond)
        torch.testing.assert_close(whole.frame.axes[row == i], one.frame.axes)


def test_a_place_does_not_know_later_ones():
    skeleton, pos = read(MOLECULES[:1])
    _, slot, before = contexts(skeleton, pos)
    for t in range(1, pos.size(1)):
        moved = pos.clone()
        moved[:, t:] += torch.randn(pos.size(1) - t, 3).double()
        _, _, after = contexts(skeleton, moved)
        seen = slot <= t
        torch.testing.assert_close(after.cond[seen], before.cond[seen])
        torch.testing.assert_close(after.around.key[seen], before.around.key[seen])


def test_places_turn_with_the_molecule():
    r"""Where atoms span the frame: not for the second and the third atom, nor at the end of a straight chain."""
    rotation = random_rotations(1, 180.0, torch.Generator().manual_seed(0))[0].double()
    skeleton, pos = read(MOLECULES)
    other, turned_pos = read([turned(data, rotation, torch.tensor([1., 2., 3.])) for data in MOLECULES])
    row, slot, a = contexts(skeleton, pos)
    _, _, b = contexts(other, turned_pos)
    spanned = ((rotation @ a.frame.axes - b.frame.axes).abs() < 1e-4).all(dim=(1, 2))
    assert spanned.double().mean() > 0.7 and not spanned[slot <= 2].any()
    torch.testing.assert_close(b.cond[spanned], a.cond[spanned], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(b.frame.to_local(turned_pos[row, slot])[spanned],
                               a.frame.to_local(pos[row, slot])[spanned])


def test_the_frame_is_undone():
    skeleton, pos = read(MOLECULES)
    row, slot, place = contexts(skeleton, pos)
    torch.testing.assert_close(place.frame.to_global(place.frame.to_local(pos[row, slot])), pos[row, slot])
    identity = torch.eye(3).double().expand_as(place.frame.axes)
    torch.testing.assert_close(place.frame.axes.mT @ place.frame.axes, identity)
    torch.testing.assert_close(torch.linalg.det(place.frame.axes), torch.ones(row.numel()).double())


def test_the_first_axis_points_to_the_atom_that_closes_a_ring():
    skeleton, pos = read(MOLECULES)
    row, slot, place = contexts(skeleton, pos)
    for t in range(row.numel()):
        new = skeleton.order[row[t], slot[t], :slot[t]].clone()
        new[skeleton.parent[row[t], slot[t]]] = 0
        if new.any():
            partner = int(new.nonzero()[0])
            line = pos[row[t], partner] - place.frame.origin[t]
            torch.testing.assert_close(place.frame.axes[t, :, 0], line / line.norm())
            assert int(place.frame.slots[t, 1]) == partner


def test_every_parameter_learns():
    network = small_network().train()
    batch = Batch.from_data_list(MOLECULES)
    for name, parameter in network.placer.head.named_parameters():
        if name.endswith('bias'):
            torch.nn.init.normal_(parameter)
    network.float()(batch, torch.Generator().manual_seed(0)).coord.backward()
    assert [name for name, p in network.placer.named_parameters() if p.grad is None or not p.grad.any()] == []
