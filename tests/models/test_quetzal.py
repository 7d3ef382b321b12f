import json
from unittest.mock import patch

import pytest
import torch
from helpers.bonded import canonical_molecules
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import InertialFrame, Quetzal, QuetzalConfig
from torch_geometric_inertial.nn import DiffusionHead
from torch_geometric_inertial.nn.fourier_embedding import BEGIN, STOP


def num_parameters(model):
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize('name, parameters', [
    ('small-w512', 35_427_843), ('small-w1024', 61_669_379), ('small-w1536', 104_688_131),
    ('base-w512', 59_681_539), ('base-w1024', 85_988_611), ('base-w1536', 129_072_899),
    ('big-w512', 95_732_739), ('big-w1024', 122_105_347), ('big-w1536', 165_255_171),
])
def test_the_published_models_have_their_published_sizes(name, parameters):
    with torch.device('meta'):
        model = Quetzal(QuetzalConfig.preset(name))
        more = Quetzal(QuetzalConfig.preset(name, elements=tuple(range(1, 119))))
    assert num_parameters(model) == num_parameters(more) == parameters
    assert model.network.channels // model.config.heads == 64
    assert repr(model) == f"Quetzal({parameters:,} parameters, order='heavy_first', bonds=False)"


@pytest.mark.parametrize('name', sorted(QuetzalConfig.presets))
def test_a_configuration_survives_json(name):
    config = QuetzalConfig.preset(name, elements=[1, 8])
    assert QuetzalConfig(**json.loads(json.dumps(config.to_dict()))) == config


def test_what_is_loaded_has_the_same_random_features(make_model, tmp_path):
    model, other = make_model(kind='quetzal'), make_model(seed=1, kind='quetzal')
    assert not torch.equal(model.network.embedding.fourier.freqs, other.network.embedding.fourier.freqs)
    again = Quetzal.from_pretrained(model.save_pretrained(tmp_path, dtype=torch.float16))
    for name in ('embedding.fourier.freqs', 'head.network.coord_fourier.phases', 'head.network.noise_fourier.freqs'):
        name = f'network.{name}'
        assert torch.equal(again.get_buffer(name), model.get_buffer(name))
    assert not any('condition' in name for name in model.state_dict())  # the first token is the embedding's


def test_atomic_numbers_are_the_rows_of_both_tables(make_model, qm9):
    """A model of more elements, or in another order, with the same tables thinks the same."""
    few, many = make_model(kind='quetzal'), make_model(kind='quetzal', elements=(9, 8, 35, 7, 6, 1, 16))
    many.load_state_dict(few.state_dict())
    a, b = (model.network.encode(Batch.from_data_list(qm9[:3])) for model in (few, many))
    torch.testing.assert_close(a.cond, b.cond)
    shared = [*few.elements, 'stop']
    column = [(*many.elements, 'stop').index(z) for z in shared]
    torch.testing.assert_close(a.type_logits, b.type_logits[:, column])
    torch.testing.assert_close(a.type_logits[:, -1], few.network.type_head.linear(_h(few, qm9[:3]))[:, STOP])


def _h(model, molecules):
    seen = {}
    hook = model.network.type_head.register_forward_hook(lambda _, args, out: seen.update(h=args[0]))
    model.network.encode(Batch.from_data_list(molecules))
    hook.remove()
    return seen['h']


def test_a_token_is_the_sum_of_its_parts(make_model):
    embedding = make_model(kind='quetzal').network.embedding
    pos = torch.tensor([[0.3, -1.2, 0.7], [2.0, 0.1, 0.0]])
    token = embedding(torch.tensor([1, 4]), torch.tensor([0, 5]), pos)
    by_hand = (embedding.type_embedding.weight[[6, 9]] + embedding.index.weight[[1, 6]] + pos @ embedding.pos.weight.T
               + embedding.fourier_linear(embedding.fourier(pos)))
    torch.testing.assert_close(token, by_hand)
    origin = embedding.fourier_linear(embedding.fourier(torch.zeros(3)))
    begin = embedding.type_embedding.weight[BEGIN] + embedding.index.weight[0] + origin
    torch.testing.assert_close(embedding.begin(), begin)
    assert torch.equal(embedding.next_type(torch.tensor([2])), embedding.type_embedding.weight[[7]])


def test_the_second_stack_sees_the_first_and_the_next_type_alone(make_model, qm9):
    model, seen = make_model(kind='quetzal'), {}
    model.network.type_head.register_forward_hook(lambda _, args, out: seen.update(h=args[0]))
    model.network.coord_stack.register_forward_pre_hook(lambda _, args: seen.update(x=args[0]))
    reading = model.network.encode(qm9[4])
    torch.testing.assert_close(seen['x'], seen['h'] + model.network.embedding.next_type(reading.next_type))


def test_the_stop_has_no_place_unless_asked_for(make_model, qm9):
    batch, heard = Batch.from_data_list(qm9[:3]), []

    def loss(head, y, cond, *args):
        heard.append((y, cond))
        return DiffusionHead.loss(head, y, cond, *args)

    for stop_place in (False, True):
        model = make_model(kind='quetzal', stop_place=stop_place)
        with patch.object(model.network.head, 'loss', lambda *args, head=model.network.head: loss(head, *args)):
            model(batch, torch.Generator().manual_seed(0))
    (y, cond), (with_stop, stop_cond) = heard
    assert y.size(0) == batch.num_nodes and with_stop.size(0) == batch.num_nodes + 3
    assert torch.equal(with_stop[-3:], torch.zeros(3, 3)) and torch.equal(with_stop[:-3], y)
    assert torch.equal(stop_cond[:-3], cond)
    single = make_model(kind='quetzal').network.encode(qm9[1])
    torch.testing.assert_close(stop_cond[-2:-1], single.end, atol=1e-4, rtol=1e-4)


def test_the_model_sees_absolute_coordinates(make_model, qm9):
    model, molecule = make_model(kind='quetzal'), qm9[6]
    seen = model.network.encode(molecule)
    assert torch.equal(seen.pos, molecule.pos)
    shifted = model.network.encode(Data(z=molecule.z, pos=molecule.pos + 1.0))
    assert (shifted.type_logits - seen.type_logits)[1:].abs().amax(1).min() > 1e-4
    torch.testing.assert_close(shifted.type_logits[0], seen.type_logits[0])


def test_the_pose_of_the_paper_is_the_inertial_frame(qm9):
    """Centroid of all atoms and principal axes of the coordinates, by descending spread; signs apart."""
    generator = torch.Generator().manual_seed(0)
    for molecule in qm9[8:]:
        turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))[0]
        pos = molecule.pos.double() @ turn + torch.randn(3, generator=generator)
        centered = pos - pos.mean(0)
        u, s, _ = torch.linalg.svd(centered.T)
        if s.diff().abs().min() < 0.3:
            continue  # axes that are nearly equal
        framed = InertialFrame()(Data(z=molecule.z, pos=pos)).pos
        torch.testing.assert_close(framed.abs(), (centered @ u).abs(), atol=1e-6, rtol=0)


def test_it_learns_molecules_by_heart_and_writes_them(qm9):
    """Four hundred steps on a CPU: what is written is what was read, now one molecule, now the other."""
    molecules = sorted(qm9, key=lambda m: m.num_nodes)[:2]
    torch.manual_seed(0)
    model = Quetzal(channels=64, heads=2, num_layers=4, coord_features=16, head_channels=64, head_layers=3,
                    head_features=16, bandwidth=1.0, max_atoms=12, num_draws=16, noise_mean=-0.5, noise_std=1.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, betas=(0.9, 0.95))
    batch, generator, steps = Batch.from_data_list(molecules), torch.Generator().manual_seed(0), 400
    for step in range(steps):
        for group in optimizer.param_groups:
            group['lr'] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / steps)
        optimizer.zero_grad()
        model(batch, generator).total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    near = {0: 0, 1: 0}
    for molecule in model.generate(16, seed=0):
        which = [m.z.tolist() for m in molecules].index(molecule.z.tolist())
        near[which] += int(molecule.finished and bool(((molecule.pos - molecules[which].pos).norm(dim=1) < 0.3).all()))
    assert sum(near.values()) >= 12 and min(near.values()) >= 1


@pytest.mark.parametrize('fields, message', [
    *[({name: 0}, rf"'{name}' must be at least 1 \(got 0\)")
      for name in ('max_atoms', 'channels', 'heads', 'coord_features', 'head_channels', 'head_layers', 'num_draws')],
    (dict(bandwidth=0.0), r"'bandwidth' must be positive \(got 0.0\)"),
    (dict(num_layers=3), r"'num_layers' must be even \(got 3\)"),
    (dict(order='sorted'), r"'order' must be one of file, .*, traverse \(got 'sorted'\)"),
    (dict(elements=(0, 1)), r"'elements' must be distinct atomic numbers \(got \(0, 1\)\)"),
    (dict(channels=30, heads=4), r"'channels' must be a multiple of 2 \* heads = 8 \(got 30\)"),
], ids=str)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        Quetzal(**fields)


def test_conditions_are_added_to_the_first_token(make_model, qm9):
    model = make_model(kind='quetzal', num_groups=3, properties=('gap', ))
    plain = make_model(kind='quetzal')
    assert num_parameters(model) == num_parameters(plain) + 3 * 32 + 32 * 32
    model.fit_properties(torch.tensor([[1.0], [3.0]]))
    begin = model.network.embedding.begin()
    torch.testing.assert_close(model.condition(None, 2), begin.expand(2, -1))
    groups = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    asked = model.condition(dict(groups=groups), 2)
    torch.testing.assert_close(asked[0], begin + model.condition.groups[0] + model.condition.groups[2])
    torch.testing.assert_close(asked[1], begin)
    molecules = model.generate(2, groups=groups, properties={'gap': 2.0}, max_atoms=4, num_steps=3)
    assert len(molecules) == 2
    model.condition.reset_parameters()
    assert torch.equal(model.condition(None, 1)[0], model.network.embedding.begin())
    assert 'condition.null' not in model.state_dict()


def test_conditions_of_a_model_that_has_none(make_model, qm9):
    molecule = Data(z=qm9[3].z, pos=qm9[3].pos, groups=torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"'groups' must be \[1, 0\] \(got \(1, 3\)\)"):
        make_model(kind='quetzal')(molecule)


BONDS = dict(bonds=True, max_atoms=30, channels=24, heads=2, graph_layers=1, place_layers=1, message_channels=16,
             field_channels=8, head_channels=16, head_layers=1, sigma_data=0.8, context_noise=0.0)


def test_with_bonds_it_is_the_other_network_along_the_cartesian_axes():
    torch.manual_seed(0)
    model = Quetzal(**BONDS).double().eval()
    data = canonical_molecules(1, first=40)[0]
    skeleton, pos = model.network.read(data)
    encoded = model.network.placer.encode(skeleton, model.network.place_condition(None, 1))
    slot = torch.arange(1, data.num_nodes)
    place = model.network.placer.context(skeleton, encoded, pos, torch.zeros_like(slot), slot)
    assert torch.equal(place.frame.axes, torch.eye(3).double().expand(len(slot), 3, 3))
    local = place.frame.to_local(pos[0, slot])
    torch.testing.assert_close(local, pos[0, slot] - pos[0, skeleton.parent[0, slot]])


def test_with_bonds_it_writes_completes_and_scores_molecules():
    torch.manual_seed(0)
    model = Quetzal(**BONDS).eval()
    pair = Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, 0], [1.43, 0, 0]]))
    for data in [*model.generate(2, seed=0, num_steps=2), *model.complete(pair, 2, seed=0, num_steps=2)]:
        assert data.edge_attr.numel() == data.edge_index.size(1) > 0 and data.pos.isfinite().all()
    assert model.log_prob(canonical_molecules(2), num_steps=2).total.isfinite().all()


def test_with_bonds_it_learns():
    torch.manual_seed(0)
    model = Quetzal(**BONDS)
    batch = Batch.from_data_list(canonical_molecules(8))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for step in range(60):
        loss = model(batch, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss))
    assert sum(losses[-10:]) < 0.6 * sum(losses[:10])
