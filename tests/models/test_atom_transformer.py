"""The teacher-forced pass: what a molecule's loss and the conditions of its places depend on."""
from unittest.mock import patch

import pytest
import torch
from helpers.generators import VARIANTS
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.nn import DiffusionHead
from torch_geometric_inertial.testing import degenerate_molecules
from torch_geometric_inertial.training import PackedMolecules


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def read(model, molecules):
    """Type logits of all tokens, and conditions and local coordinates of all atoms, as the losses see them."""
    seen = {}
    hooks = [
        model.network.type_head.register_forward_hook(lambda _, args, out: seen.update(logits=out)),
        model.network.head.cond_linear.register_forward_hook(lambda _, args, out: seen.update(cond=args[0])),
    ]
    def loss(y, *args):
        seen.update(local=y)
        return DiffusionHead.loss(model.network.head, y, *args)

    with torch.no_grad(), patch.object(model.network.head, 'loss', loss):
        seen['loss'] = model(Batch.from_data_list(molecules), generator())
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
@given(data=st.data())
def test_an_atom_changes_nothing_before_it_nor_in_other_molecules(make_model, qm9, variant, data):
    model = make_model(**variant)
    molecules = qm9[8:11]
    which = data.draw(st.integers(0, 2))
    j = data.draw(st.integers(0, molecules[which].num_nodes - 1))
    before = read(model, molecules)
    other = [m.clone() for m in molecules]
    other[which].z[j] = data.draw(st.sampled_from([z for z in (1, 6, 7, 8) if z != other[which].z[j]]))
    other[which].pos[j] += torch.tensor([0.4, -0.3, 0.5])
    after = read(model, other)
    atoms = sum(m.num_nodes for m in molecules[:which])
    end = atoms + molecules[which].num_nodes
    # Token t of a molecule tells the type of atom t. The place of atom j is told of its type, not of its position.
    token = atoms + which + j
    for name, start, stop in (('logits', token, end + which), ('cond', atoms + j - 1, end - 1)):
        changed = (before[name] - after[name]).abs().amax(1) > 1e-5
        inside = torch.zeros_like(changed)
        inside[start + 1:stop + 1] = True
        assert not changed[~inside].any()
        assert changed[inside].any() or not inside.any()


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_the_place_of_an_atom_depends_on_its_type_but_not_on_its_position(make_model, qm9, variant):
    model, molecule = make_model(**variant), qm9[9]
    j = molecule.num_nodes - 2
    plain = read(model, [molecule])['cond'][j]
    moved, other = molecule.clone(), molecule.clone()
    moved.pos[j] += 0.02
    other.z[j] = 8 if other.z[j] != 8 else 6
    torch.testing.assert_close(read(model, [moved])['cond'][j], plain, atol=1e-5, rtol=0)
    assert (read(model, [other])['cond'][j] - plain).abs().max() > 1e-3


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_a_batch_is_its_molecules(make_model, qm9, variant):
    model, molecules = make_model(**variant), [*qm9[:5], qm9[20], Data(z=torch.tensor([8]), pos=torch.zeros(1, 3))]
    together, alone = read(model, molecules), [read(model, [m]) for m in molecules]
    for name in ('logits', 'cond', 'local'):
        torch.testing.assert_close(together[name], torch.cat([a[name] for a in alone]), atol=1e-4, rtol=1e-4)
    tokens = torch.tensor([m.num_nodes + 1.0 for m in molecules])
    mean = (torch.stack([a['loss'].type for a in alone]) * tokens).sum() / tokens.sum()
    torch.testing.assert_close(together['loss'].type, mean, atol=1e-5, rtol=1e-5)


def test_the_stop_token_has_a_type_and_no_place(make_model, qm9):
    model, molecules = make_model(), qm9[:3]
    seen, atoms = read(model, molecules), sum(m.num_nodes for m in molecules)
    assert seen['logits'].size(0) == atoms + 3
    assert seen['local'].size(0) == seen['cond'].size(0) == atoms


def test_the_type_loss_is_the_cross_entropy_of_every_atom_and_the_stop(make_model, qm9):
    model, molecule = make_model(), qm9[5]
    seen = read(model, [molecule])
    target = torch.tensor([*(model.elements.index(int(z)) for z in molecule.z), model.network.stop])
    expected = -seen['logits'].log_softmax(1).gather(1, target[:, None]).mean()
    torch.testing.assert_close(seen['loss'].type, expected)


def test_the_total_weighs_the_terms(make_model, qm9):
    batch = Batch.from_data_list(qm9[:4])
    a, b = (make_model(coord_weight=w)(batch, generator()) for w in (1.0, 3.0))
    torch.testing.assert_close(a.total, a.type + a.coord)
    torch.testing.assert_close(b.total, b.type + 3 * b.coord)


@pytest.mark.parametrize('sigma', [0.8, 1.4])
def test_a_new_model_knows_nothing(make_model, qm9, sigma):
    """Types are uniform; parents nearly so; the denoising error is that of the skip connection."""
    model = make_model(awake=False, sigma_data=sigma, noise_mean=-1.2, noise_std=1.2, num_draws=64)
    seen = read(model, qm9)
    assert seen['loss'].type.item() == pytest.approx(torch.tensor(6.0).log().item(), abs=1e-5)
    log_sigma = torch.distributions.Normal(-1.2, 1.2).icdf(torch.linspace(1e-3, 1 - 1e-3, 2001, dtype=torch.float64))
    s2, d2 = log_sigma.exp()**2, sigma**2
    expected = ((s2 / d2) * seen['local'].square().mean() + d2).div(s2 + d2).mean()
    assert seen['loss'].coord.item() == pytest.approx(float(expected), rel=0.03)


def test_context_noise_blurs_what_the_network_is_told_and_not_its_target(make_model, qm9):
    quiet, noisy = (read(make_model(context_noise=n).train(), qm9[:3]) for n in (0.0, 0.05))
    assert torch.equal(quiet['local'], noisy['local'])
    assert (quiet['logits'] - noisy['logits']).abs().max() > 1e-4
    a, b = (read(make_model(context_noise=n), qm9[:3]) for n in (0.0, 0.05))  # evaluation is quiet
    assert torch.equal(a['logits'], b['logits'])


def test_all_noise_comes_from_the_generator(make_model, qm9):
    model, batch, state = make_model(context_noise=0.05).train(), Batch.from_data_list(qm9[:4]), torch.get_rng_state()
    a, b, c = (model(batch, generator(seed)) for seed in (0, 0, 1))
    assert a == b and a.total != c.total
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_degenerate_molecules_have_finite_losses_and_gradients(make_model, variant):
    model = make_model(elements=(1, 6, 7, 8, 9, 16, 17, 26, 35), max_atoms=60, **variant)
    molecules = [Data(z=m.z, pos=m.pos.float()) for m in degenerate_molecules().values()]
    molecules.append(Data(z=torch.tensor([6, 1, 1, 1]), pos=torch.zeros(4, 3)))  # coincident atoms
    loss = model(Batch.from_data_list(molecules), generator())
    assert all(bool(term.isfinite()) for term in loss)
    loss.total.backward()
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_every_parameter_is_trained(make_model, qm9, variant):
    model = make_model(**variant)
    model(Batch.from_data_list(qm9[:4]), generator()).total.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []


def test_a_single_molecule_needs_no_batch(make_model, qm9):
    model, molecule = make_model(), qm9[3]
    a, b = model(molecule, generator()), model(Batch.from_data_list([molecule]), generator())
    c = model(PackedMolecules.from_dataset([molecule]).batch(torch.tensor([0])), generator())
    assert a == b == c


def spoilt(molecule, **fields):
    out = Data(z=molecule.z.clone(), pos=molecule.pos.clone())
    for name, value in fields.items():
        out[name] = value
    return out


def test_errors(make_model, qm9):
    model, good = make_model(elements=(1, 6, 7, 8), max_atoms=20), qm9[9]
    n = good.num_nodes
    nan, far = good.pos.clone(), good.pos.clone()
    nan[2, 1], far[3, 0] = torch.nan, torch.inf
    gold, negative, fluorine = good.z.clone(), good.z.clone(), good.z.clone()
    gold[1], negative[0], fluorine[4] = 300, -1, 9
    for data, message in [
        (Data(z=good.z), r"a generator needs 'pos' in its input \(got Data"),
        (Data(pos=good.pos), r"a generator needs 'z' in its input \(got Data"),
        (spoilt(good, pos=good.pos[:-1]), rf"'z' must be \[N\] and 'pos' \[N, 3\] \(got \({n},\) and \({n - 1}, 3\)\)"),
        (spoilt(good, pos=good.pos[:, :2]), r"'z' must be \[N\] and 'pos' \[N, 3\]"),
        (spoilt(good, z=good.z[None]), r"'z' must be \[N\] and 'pos' \[N, 3\]"),
        (spoilt(good, z=good.z.float()), r"'z' must hold whole numbers \(got torch.float32\)"),
        (spoilt(good, pos=good.pos.to('meta')),
         r"'z' and 'pos' must be on the model's device, cpu \(got cpu and meta\)"),
        (spoilt(good, z=good.z[:0], pos=good.pos[:0]), r'molecule 0 has no atoms'),
        (spoilt(good, ptr=torch.tensor([0, 3, 3, n])), r'molecule 1 has no atoms'),
        (spoilt(good, z=torch.ones(21).long(), pos=torch.rand(21, 3)),
         r"'max_atoms' is 20 \(got molecule 0 of 21 atoms\)"),
        (spoilt(good, pos=nan), r"'pos' must be finite \(got \[.*nan.*\] at atom 2\)"),
        (spoilt(good, pos=far), r"'pos' must be finite \(got \[inf.*\] at atom 3\)"),
        (spoilt(good, z=gold), r"'z' must be one of the model's elements H, C, N, O \(got 300 at atom 1\)"),
        (spoilt(good, z=negative), r"'z' must be one of the model's elements H, C, N, O \(got -1 at atom 0\)"),
        (spoilt(good, z=fluorine), r"'z' must be one of the model's elements H, C, N, O \(got 9 at atom 4\)"),
        (spoilt(good, groups=torch.ones(1, 3)), r"'groups' must be \[1, 0\] \(got \(1, 3\)\)"),
    ]:
        for read_it in (model, model.network.tokenize) if 'groups' not in data else (model, ):
            with pytest.raises(ValueError, match=message):
                read_it(data)
