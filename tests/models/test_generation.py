"""Writing: what a molecule is a function of, and that it is written as it would be read."""
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Batch

from torch_geometric_inertial.models import autoregressor
from torch_geometric_inertial.models.sampling import draw
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS

VARIANTS = [dict(), dict(coordinate_target='relative'), dict(coordinate_target='absolute'),
            dict(coordinate_target='absolute', fusion='heads'), dict(environment_channels=0, valence_channels=0),
            dict(kind='quetzal')]


def spy(model, function):
    """Runs :obj:`function` and returns its result, and what passed through the parts of the model, call by call."""
    seen = {name: [] for name in ('logits', 'cond', 'parent', 'told')}
    next_type = model.embedding.next_type

    def told(types):
        seen['told'].append(types.clone())
        return next_type(types)

    hooks = [
        model.type_head.register_forward_hook(lambda _, args, out: seen['logits'].append(out.clone())),
        model.head.cond_linear.register_forward_hook(lambda _, args, out: seen['cond'].append(args[0].clone())),
        model.placement.register_forward_hook(lambda _, args, out: seen['parent'].append(args[2].clone())),
    ]
    with patch.object(model.embedding, 'next_type', told):
        result = function()
    for hook in hooks:
        hook.remove()
    return result, seen


def same(a, b, atol=5e-2):  # the flow of random weights blows up the last digit of float32
    assert [m.z.tolist() for m in a] == [m.z.tolist() for m in b]
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.pos, y.pos, atol=atol, rtol=0)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_a_written_molecule_is_read_as_it_was_written(make_model, variant):
    """Cached, atom by atom, and uncached, all at once: the same logits and the same conditions of every place."""
    model, sizes = make_model(**variant), []
    for seed in range(6):
        (molecule, ), written = spy(model, lambda seed=seed: model.generate(1, seed=seed, num_steps=6, max_atoms=12))
        parent = torch.cat(written['parent'], dim=1)
        with torch.no_grad(), patch.object(autoregressor, 'find_parents', lambda *_, parent=parent: parent):
            _, read = spy(model, lambda molecule=molecule: model(molecule, torch.Generator().manual_seed(0)))
        torch.testing.assert_close(torch.cat(written['logits']), read['logits'][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.cat(written['cond']), read['cond'][0], atol=1e-4, rtol=1e-4)
        sizes.append(molecule.num_nodes)
    assert max(sizes) > 5


@pytest.mark.parametrize('variant', VARIANTS[:4], ids=str)
def test_a_molecule_is_a_function_of_seed_and_number_alone(make_model, variant):
    model = make_model(**variant)
    all_at_once = model.generate(7, seed=3, num_steps=6, max_atoms=12)
    for batch_size in (1, 2, 5):
        same(model.generate(7, seed=3, num_steps=6, max_atoms=12, batch_size=batch_size), all_at_once)
    same(model.generate(4, seed=3, num_steps=6, max_atoms=12), all_at_once[:4])
    other = model.generate(7, seed=4, num_steps=6, max_atoms=12)
    assert [m.z.tolist() for m in other] != [m.z.tolist() for m in all_at_once]
    assert len({tuple(m.z.tolist()) for m in all_at_once}) > 1


def test_neither_global_random_state_nor_mode_change(make_model):
    model, state = make_model(dropout=0.3), torch.get_rng_state()
    for training in (True, False):
        model.train(training)
        a = model.generate(3, num_steps=4)
        assert model.training is training
        same(model.eval().generate(3, num_steps=4), a, atol=0)
    assert torch.equal(torch.get_rng_state(), state)
    model.train()
    with pytest.raises(ValueError, match="'solver'"):
        model.generate(1, solver='euler')
    assert model.training


@given(seed=st.integers(0, 2**40), max_atoms=st.integers(1, 6))
def test_molecules_are_whole_or_say_that_they_are_not(make_model, seed, max_atoms):
    model = make_model(elements=(8, 1, 17))
    with torch.no_grad():
        model.type_head[-1].weight[model.stop] = 0  # neither likely nor rare
    for molecule in model.generate(4, seed=seed, num_steps=3, max_atoms=max_atoms):
        assert set(molecule.z.tolist()) <= {8, 1, 17}
        assert 1 <= molecule.num_nodes <= max_atoms
        assert molecule.pos.shape == (molecule.num_nodes, 3) and molecule.pos.dtype == torch.float32
        assert molecule.pos.isfinite().all()
        assert molecule.finished or molecule.num_nodes == max_atoms


@pytest.mark.parametrize('variant', VARIANTS[:3], ids=str)
def test_a_lower_limit_cuts_the_same_molecule_short(make_model, variant):
    model = make_model(**variant)
    whole, cut = (model.generate(12, seed=1, num_steps=6, max_atoms=n) for n in (30, 4))
    assert {m.finished for m in cut} == {True, False}
    for a, b in zip(whole, cut, strict=True):
        assert a.z[:4].tolist() == b.z.tolist()
        assert b.finished == (a.num_nodes <= 4 and a.finished)
        torch.testing.assert_close(a.pos[:4], b.pos, atol=1e-3, rtol=0)


@pytest.mark.parametrize('temperature', [0.0, 1.0])
def test_the_type_that_is_written_is_the_one_that_the_place_is_told(make_model, temperature):
    model = make_model()
    for seed in range(4):
        (molecule, ), seen = spy(model, lambda s=seed: model.generate(1, seed=s, temperature=temperature, num_steps=4))
        types = torch.tensor(model.elements)[torch.cat(seen['told'])]
        assert types.tolist() == molecule.z.tolist()


def test_temperature_zero_writes_the_most_likely_types(make_model):
    model = make_model()
    for function in (dict(temperature=0.0), dict(top_p=1e-9)):
        for seed in range(3):
            (molecule, ), seen = spy(model, lambda s=seed, f=function: model.generate(1, seed=s, num_steps=4, **f))
            logits = torch.cat(seen['logits'])
            logits[0, model.stop] = -torch.inf
            best = logits.argmax(1)[:molecule.num_nodes]
            assert molecule.z.tolist() == torch.tensor(model.elements)[best].tolist()


def test_temperature_and_evaluations_have_an_effect(make_model):
    model = make_model()

    def first_atoms(temperature):
        return {int(m.z[0]) for m in model.generate(40, temperature=temperature, num_steps=3, max_atoms=1)}
    assert len(first_atoms(0.0)) == len(first_atoms(0.01)) == 1 < len(first_atoms(1.0))
    assert not torch.equal(model.generate(1, num_steps=4)[0].pos[:1], model.generate(1, num_steps=9)[0].pos[:1])
    same = model.generate(1, max_atoms=2, num_steps=NUM_STEPS)[0].pos
    assert torch.equal(model.generate(1, max_atoms=2)[0].pos, same)
    a, b = (model.generate(1, num_steps=n, solver='heun', max_atoms=1)[0].pos[0] for n in (61, 121))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)


@given(st.integers(0, 10**6), st.sampled_from([0.3, 1.0, 2.0]), st.sampled_from([0.2, 0.7, 1.0]))
def test_draws_follow_the_distribution(seed, temperature, top_p):
    logits = 2 * torch.randn(6, generator=torch.Generator().manual_seed(seed))
    n = 20_000
    chance = (torch.arange(n) + 0.5) / n  # inverse of the distribution function on a fine grid: no statistics
    share = torch.bincount(draw(logits.expand(n, -1), chance, temperature, top_p), minlength=6) / n
    prob = (logits / temperature).softmax(0)
    order = prob.argsort(descending=True)
    kept = order[:int((prob[order].cumsum(0) < top_p - 1e-6).sum()) + 1]  # the least set of at least top_p
    expected = torch.zeros(6).index_copy(0, kept, prob[kept] / prob[kept].sum())
    torch.testing.assert_close(share, expected, atol=3e-4, rtol=0)


def test_draws_at_the_ends():
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf]]).expand(2, -1)
    assert draw(logits, torch.tensor([0.0, 1 - 1e-7]), 1.0, 1.0).tolist() == [1, 1]


def test_groups_condition_and_their_absence_does_not(make_model):
    model = make_model(num_groups=3)
    with torch.no_grad():
        model.condition.groups *= 10
    free = model.generate(5, num_steps=4)
    wanted = torch.tensor([1, 0, 1])
    same(model.generate(5, num_steps=4, groups=wanted), model.generate(5, num_steps=4, groups=wanted.expand(5, 3)))
    with pytest.raises(AssertionError):
        same(model.generate(5, num_steps=4, groups=wanted), free)
    rows = torch.eye(3)[torch.tensor([0, 1, 2, 0, 1])]
    mixed = model.generate(5, num_steps=4, groups=rows)
    same(model.generate(5, num_steps=4, groups=rows, batch_size=2), mixed)
    same(model.generate(5, num_steps=4, groups=rows[1])[1:2], mixed[1:2])


def test_values_and_names_are_asked_for(make_model):
    model = make_model(num_groups=2, group_names=('ketone', 'ether'), properties=('gap', 'mu'))
    model.fit_properties(torch.tensor([[0.1, 0.0], [0.4, 5.0]]))
    with torch.no_grad():
        model.condition.groups *= 10
    few = dict(num_steps=4, max_atoms=8)
    free = model.generate(5, **few)
    same(model.generate(5, **few, groups=['ether']), model.generate(5, **few, groups=torch.tensor([0, 1])))
    same(model.generate(5, **few, properties={}), free, atol=0)
    wide = torch.tensor([0.12, 0.2, 0.3, 0.4, float('nan')])
    mixed = model.generate(5, **few, properties={'gap': wide})
    same(mixed[1:2], model.generate(5, **few, properties={'gap': 0.2})[1:2])
    same(mixed[4:], free[4:])
    with pytest.raises(AssertionError):
        same(mixed, free)
    with pytest.warns(UserWarning, match='gap = 0.5 is outside the training range, 0.1 to 0.4'):
        model.generate(1, **few, properties={'gap': 0.5})


def test_guidance_goes_from_unconditional_to_conditional(make_model):
    model = make_model(num_groups=2, properties=('gap', ))
    model.fit_properties(torch.tensor([[0.1], [0.4]]))
    with torch.no_grad():
        model.condition.groups *= 10
    wish = dict(num_steps=4, groups=torch.tensor([1, 0]), properties={'gap': 0.2})
    free, wanted = model.generate(6, num_steps=4), model.generate(6, **wish)
    same(model.generate(6, guidance_scale=0, **wish), free)
    same(model.generate(6, guidance_scale=1, **wish), wanted, atol=0)
    same(model.generate(6, guidance_scale=1 + 1e-6, **wish), wanted)
    same(model.generate(6, guidance_scale=1e-6, **wish), free)
    with pytest.raises(AssertionError):
        same(model.generate(6, guidance_scale=3, **wish), wanted)
    with pytest.raises(ValueError, match=r"trained without a null condition, with condition_dropout=0 \(got 2\)"):
        make_model(num_groups=2, condition_dropout=0.0).generate(1, groups=torch.tensor([1, 0]), guidance_scale=2)


def test_a_model_learns_what_it_is_asked_for(make_model, qm9):
    """Of the beginnings of two molecules, the one whose group or value is asked for; without a wish both."""
    model = make_model(awake=False, type_layers=1, coord_layers=1, num_groups=2, properties=('x', )).train()
    pair = qm9[:2]
    known = [m.z[:2].tolist() for m in pair]
    assert known[0] != known[1]
    wishes = dict(groups=torch.eye(2).repeat(8, 1), properties=torch.tensor([[1.0], [3.0]]).repeat(8, 1))
    batch = Batch.from_data_list(pair * 8).update(wishes)
    model.fit_properties(batch.properties)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for step in range(100):
        loss = model(batch, torch.Generator().manual_seed(step))
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()

    def shares(**wish):
        written = [m.z.tolist() for m in model.generate(200, num_steps=8, max_atoms=2, **wish)]
        return [sum(z == expected for z in written) / 200 for expected in known]
    free = shares()
    for i, value in enumerate((1.0, 3.0)):
        told = [shares(groups=torch.eye(2)[i]), shares(properties={'x': value})]
        guided = shares(groups=torch.eye(2)[i], guidance_scale=2)
        for other in told:
            assert other[i] > free[i] + 0.1 and other[1 - i] < free[1 - i] - 0.1
        assert guided[i] > told[0][i] and guided[1 - i] < told[0][1 - i]


def test_the_progress_bar_counts_molecules(make_model, capsys):
    make_model().generate(3, num_steps=2, batch_size=2)
    assert capsys.readouterr() == ('', '')
    make_model().generate(3, num_steps=2, batch_size=2, progress=True)
    assert '3/3' in capsys.readouterr().err


def test_a_model_that_has_seen_four_molecules_writes_them_again(make_model, qm9):
    model = make_model(awake=False, context_noise=0.0, type_layers=1, coord_layers=1, head_layers=3, head_channels=64,
                       num_draws=16).train()
    molecules = qm9[:4]
    batch = Batch.from_data_list(molecules)
    optimizer = torch.optim.AdamW(model.parameters())
    losses, steps = [], 350
    for step in range(steps):
        for group in optimizer.param_groups:
            group['lr'] = 6e-3 * min(1, (steps - step) / (0.6 * steps))
        loss = model(batch, torch.Generator().manual_seed(step)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    first, last = sum(losses[:10]), sum(losses[-10:])
    assert last < 0.1 * first
    known = {tuple(m.z.tolist()): m for m in molecules}
    written = model.generate(24, num_steps=20, max_atoms=10)
    again = [m for m in written if tuple(m.z.tolist()) in known]
    assert len(again) >= 20 and len({tuple(m.z.tolist()) for m in again}) == 4
    off = []
    for m in again:
        distance, true = (torch.cdist(x.pos, x.pos) for x in (m, known[tuple(m.z.tolist())]))
        bonded = (true > 0) & (true < 1.7)
        off.append((distance - true)[bonded].abs())
    assert torch.cat(off).median() < 0.02


@pytest.mark.parametrize('arguments, message', [
    (dict(num_samples=0), r"'num_samples' must be at least 1 \(got 0\)"),
    (dict(batch_size=0), r"'batch_size' must be at least 1 \(got 0\)"),
    (dict(max_atoms=0), r"'max_atoms' must be at least 1 \(got 0\)"),
    (dict(max_atoms=31), r"'max_atoms' must be at most 30, the model's own \(got 31\)"),
    (dict(temperature=-0.5), r"'temperature' must not be negative \(got -0.5\)"),
    (dict(top_p=0.0), r"'top_p' must be in \(0, 1\] \(got 0.0\)"),
    (dict(top_p=1.5), r"'top_p' must be in \(0, 1\] \(got 1.5\)"),
    (dict(solver='euler'), r"'solver' must be one of .* \(got 'euler'\)"),
    (dict(num_steps=1), r"'num_steps' must be at least 2 for 'dpmpp' \(got 1\)"),
    (dict(groups=torch.ones(3, 2)), r"'groups' must be \[0\] or \[2, 0\] \(got \(3, 2\)\)"),
    (dict(groups=torch.ones(4)), r"'groups' must be \[0\] or \[2, 0\] \(got \(4,\)\)"),
    (dict(groups=['ketone']), r"the model does not know the group 'ketone' \(it knows none by name\)"),
    (dict(properties={'gap': 1.0}), r"the model does not know the property 'gap' \(it knows none\)"),
], ids=str)
def test_errors(make_model, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_model().generate(**(dict(num_samples=2) | arguments))
