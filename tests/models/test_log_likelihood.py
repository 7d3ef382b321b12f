"""The likelihood of whole molecules: what each term is, and what it depends on."""
import math
from unittest.mock import patch

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.models.prefix_likelihood import prefix_log_prob
from torch_geometric_inertial.nn import diffusion_head

KINDS = [dict(), dict(kind='quetzal')]


def like(log_prob, atoms, molecule):
    """The terms of one molecule of a batch."""
    return (log_prob.total[molecule], log_prob.type[atoms], log_prob.coord[atoms], log_prob.bond[atoms],
            log_prob.stop[molecule])


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_a_batch_is_its_molecules_and_a_total_its_terms(make_model, qm9, kind):
    model, molecules = make_model(**kind), [*qm9[3:6], Data(z=torch.tensor([8]), pos=torch.zeros(1, 3))]
    batch = Batch.from_data_list(molecules)
    together = model.log_prob(batch, num_steps=2, canonical=False)
    assert together.total.shape == together.stop.shape == (4, )
    assert together.type.shape == together.coord.shape == together.bond.shape == (batch.num_nodes, )
    for i, molecule in enumerate(molecules):
        atoms = slice(int(batch.ptr[i]), int(batch.ptr[i + 1]))
        here, alone = like(together, atoms, i), model.log_prob(molecule, num_steps=2, canonical=False)
        for a, b in zip(here, like(alone, slice(None), 0), strict=True):
            torch.testing.assert_close(a, b, atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(here[0], sum(x.sum() for x in here[1:]))
    assert not together.bond.any()  # these models write none


def test_a_new_quetzal_is_a_gaussian_and_a_uniform_choice(make_model, qm9):
    model, molecule = make_model(awake=False, kind='quetzal'), qm9[7]
    n = molecule.num_nodes
    found = model.log_prob(molecule, canonical=False)
    s2 = 1.4**2 + 2e-3**2
    expected = -1.5 * math.log(2 * math.pi * s2) - molecule.pos.double().square().sum(1) / (2 * s2)
    torch.testing.assert_close(found.coord, expected, atol=1e-6, rtol=1e-6)
    uniform = torch.full((n, ), -math.log(6.0), dtype=torch.float64)
    uniform[0] = -math.log(5.0)  # a molecule has an atom
    torch.testing.assert_close(found.type, uniform)
    assert found.stop.item() == pytest.approx(-math.log(6))
    assert found.total.item() == pytest.approx(float((expected + uniform).sum()) - math.log(6))


@pytest.mark.parametrize('kind', KINDS, ids=str)
def test_moving_an_atom_changes_its_own_place_and_what_follows(make_model, qm9, kind):
    """The condition after i atoms belongs to atom i + 1: its own term moves, and none before it."""
    model, molecule = make_model(**kind), qm9[9]
    j, moved = 4, qm9[9].clone()
    moved.pos[j] += 0.02
    before, after = (model.log_prob(m, num_steps=2, canonical=False) for m in (molecule, moved))
    for name in ('type', 'coord', 'bond'):
        change = (getattr(before, name) - getattr(after, name)).abs()
        assert change[:j].max() < 1e-5
    change = (before.coord - after.coord).abs()
    assert change[j] > 1e-4 and change[j + 1:].max() > 1e-4
    assert abs(before.type[j] - after.type[j]) < 1e-5  # its element is drawn first
    last = molecule.clone()
    last.pos[-1] += 0.02
    at_the_end = model.log_prob(last, num_steps=2, canonical=False)
    change = (before.coord - at_the_end.coord).abs()
    assert change[-1] > 1e-4 and change[:-1].max() < 1e-5


def test_types_are_the_cross_entropy_of_training(make_model, qm9):
    model, molecule = make_model(), qm9[5]
    with torch.no_grad():
        loss = model(molecule, torch.Generator().manual_seed(0))
    found = model.log_prob(molecule, num_steps=1, canonical=False)
    logits = model.network.encode(molecule).type_logits.detach().double()
    no_stop = torch.log1p(-logits[0].softmax(0)[model.network.stop])  # training may stop before the first atom
    n = molecule.num_nodes
    assert -(float(found.type.sum() + found.stop) + float(no_stop)) / (n + 1) == pytest.approx(float(loss.type), 1e-5)


def test_it_is_the_probability_of_what_is_written(make_model):
    """Elements: the frequencies of single atoms and stops among molecules that the model writes."""
    model = make_model(kind='quetzal')
    written = model.generate(600, max_atoms=1, num_steps=2, seed=3)
    for z in model.elements:
        share = sum(int(m.z[0]) == z for m in written) / 600
        molecule = Data(z=torch.tensor([z]), pos=torch.zeros(1, 3))
        expected = math.exp(float(model.log_prob(molecule, num_steps=1, canonical=False).type[0]))
        assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 600) + 1e-3)


def test_it_converges_in_steps(make_model, qm9):
    model, batch = make_model(kind='quetzal'), Batch.from_data_list(qm9[:3])
    exact = model.log_prob(batch, num_steps=48, canonical=False).coord
    error = [float((model.log_prob(batch, num_steps=n, canonical=False).coord - exact).abs().max()) for n in (2, 8, 16)]
    assert error[2] < 2e-3 and error[2] < error[1] < error[0]


def test_it_leaves_no_trace(make_model, qm9):
    model = make_model(context_noise=0.05).train()
    state = torch.get_rng_state()
    a, b = (model.log_prob(qm9[3], num_steps=2, canonical=False) for _ in range(2))
    assert model.training and torch.equal(a.total, b.total) and not a.total.requires_grad
    assert all(p.grad is None for p in model.parameters()) and torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(a.total, make_model().log_prob(qm9[3], num_steps=2, canonical=False).total)
    with pytest.raises(ValueError, match=r"'num_steps' must be at least 1 \(got 0\)"):
        model.log_prob(qm9[3], num_steps=0, canonical=False)
    with pytest.raises(ValueError, match=r"'chunk_size' must be at least 1 \(got -1\)"):
        model.log_prob(qm9[3], chunk_size=-1)
    assert model.training


def test_molecules_that_it_cannot_read(make_model):
    with pytest.raises(ValueError, match=r"'z' must be one of the model's elements .* \(got 79 at atom 0\)"):
        make_model().log_prob(Data(z=torch.tensor([79]), pos=torch.zeros(1, 3)))


# Beginnings, quickly: the bound is the density where that is known, the other parts are log-softmax.


def test_the_bound_of_an_untrained_head_is_its_gaussian(make_model):
    """D = c_skip x is the denoiser of N(0, s²); without noise the integral is |y|² / 2s², exactly."""
    model = make_model(awake=False, sigma_data=0.9)
    generator = torch.Generator().manual_seed(0)
    a, b = (Data(z=torch.tensor([6, 8, 1]), pos=torch.randn(3, 3, generator=generator)) for _ in range(2))
    with torch.no_grad(), patch.object(diffusion_head, 'BOUND_LEVELS', (1e-4, 1e4, 2000)):
        out = model.network.encode(Batch.from_data_list([a, b]))
        uniform = out._replace(type_logits=torch.zeros_like(out.type_logits))
        score = prefix_log_prob(uniform, model.network.head, torch.zeros(6, 3))
    expected = -(a.pos.square().sum() - b.pos.square().sum()) / (2 * 0.9**2)
    torch.testing.assert_close((score[0] - score[1]).float(), expected, atol=1e-3, rtol=1e-3)


def test_types_count_and_molecules_do_not_mix(make_model, qm9):
    model = make_model()
    molecules = qm9[:5]
    noise = torch.randn(3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        out = model.network.encode(Batch.from_data_list(molecules))
        score = prefix_log_prob(out, model.network.head, noise.expand(out.pos.size(0), 3))
        for i, data in enumerate(molecules):
            alone = model.network.encode(data)
            own = prefix_log_prob(alone, model.network.head, noise.expand(data.num_nodes, 3))
            torch.testing.assert_close(own[0], score[i], atol=1e-3, rtol=1e-4)
            types = alone.type_logits[:-1].log_softmax(1)[torch.arange(data.num_nodes), alone.next_type[:-1]].sum()
            flat = alone._replace(type_logits=torch.zeros_like(alone.type_logits))
            places = prefix_log_prob(flat, model.network.head, noise.expand(data.num_nodes, 3))
            uniform = data.num_nodes * torch.tensor(model.network.stop + 1.0).log()
            torch.testing.assert_close((own - places - uniform)[0].float(), types, atol=1e-3, rtol=1e-4)


def test_what_a_file_says_of_a_molecule_is_no_condition(qm9):
    """The readers of files put data items under the name that the conditions of a batch have."""
    model, plain = InertialAR.from_pretrained('qm9'), QM9Sample()[40]
    data = plain.clone()
    data.properties = {'logp': '1.2'}
    assert float(model.log_prob(data, num_steps=1).total) == float(model.log_prob(plain, num_steps=1).total)
