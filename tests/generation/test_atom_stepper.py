"""Sampling: what a molecule is a function of, and that it is written as the plain loop writes it and as it is read."""
from unittest.mock import patch

import pytest
import torch
from helpers.generators import FAST, VARIANTS, rows_through, same, spread_out
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.generation import SamplingConfig, batch
from torch_geometric_inertial.generation.plain import generate_plainly
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS


def spy(model, function):
    """Runs :obj:`function` and returns its result, and what passed through the parts of the model, call by call."""
    seen = {name: [] for name in ('logits', 'cond', 'told')}
    next_type = model.network.embedding.next_type

    def told(types):
        seen['told'].append(types.clone())
        return next_type(types)

    hooks = [
        model.network.type_head.register_forward_hook(lambda _, args, out: seen['logits'].append(out.clone())),
        model.network.head.cond_linear.register_forward_hook(lambda _, args, out: seen['cond'].append(args[0].clone())),
    ]
    with patch.object(model.network.embedding, 'next_type', told):
        result = function()
    for hook in hooks:
        hook.remove()
    return result, seen


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_it_writes_what_the_plain_loop_writes(make_model, variant):
    """Cached and in batches, and uncached, one by one."""
    model = make_model(**variant)
    written = model.generate(6, seed=2, top_p=0.9, num_steps=5, max_atoms=8, batch_size=4)
    sampling = SamplingConfig(top_p=0.9, num_steps=5)
    plain = [generate_plainly(model.network, i, seed=2, sampling=sampling, max_atoms=8) for i in range(6)]
    same(written, plain, atol=5e-3)
    assert [m.finished for m in written] == [m.finished for m in plain]
    assert max(m.num_nodes for m in plain) > 3


def test_conditions_reach_the_plain_loop_as_well(make_model):
    model = make_model(num_groups=3)
    with torch.no_grad():
        model.condition.groups *= 10
    groups = torch.tensor([1, 0, 1])
    plain = [generate_plainly(model.network, i, sampling=SamplingConfig(num_steps=4), max_atoms=12,
                              conditions=dict(groups=groups.float().unsqueeze(0))) for i in range(3)]
    same(model.generate(3, groups=groups, **FAST), plain)


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_a_written_molecule_is_read_as_it_was_written(make_model, variant):
    """Cached, atom by atom, and uncached, all at once: the same logits and the same conditions of every place."""
    model, sizes = make_model(**variant), []
    for seed in range(6):
        (molecule, ), written = spy(model, lambda seed=seed: model.generate(1, seed=seed, num_steps=6, max_atoms=12))
        with torch.no_grad():
            _, read = spy(model, lambda molecule=molecule: model(molecule, torch.Generator().manual_seed(0)))
        torch.testing.assert_close(torch.cat(written['logits']), read['logits'][0], atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(torch.cat(written['cond']), read['cond'][0], atol=1e-4, rtol=1e-4)
        sizes.append(molecule.num_nodes)
    assert max(sizes) >= 5


@pytest.mark.parametrize('variant', VARIANTS[:3], ids=str)
def test_a_molecule_is_a_function_of_seed_and_number_alone(make_model, variant):
    model = make_model(**variant)
    all_at_once = model.generate(7, seed=3, num_steps=6, max_atoms=12)
    for batch_size in (1, 2, 5):
        same(model.generate(7, seed=3, num_steps=6, max_atoms=12, batch_size=batch_size), all_at_once)
    same(model.generate(4, seed=3, num_steps=6, max_atoms=12), all_at_once[:4])
    other = model.generate(7, seed=4, num_steps=6, max_atoms=12)
    assert [m.z.tolist() for m in other] != [m.z.tolist() for m in all_at_once]
    assert len({tuple(m.z.tolist()) for m in all_at_once}) > 1


@pytest.mark.parametrize('variant', VARIANTS, ids=str)
def test_in_float64_the_batch_size_changes_nothing(make_model, variant):
    model = make_model(**variant).double()
    same(model.generate(5, **FAST), model.generate(5, batch_size=2, **FAST), atol=1e-6)


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
        model.network.type_head[-1].weight[model.network.stop] = 0  # neither likely nor rare
    for molecule in model.generate(4, seed=seed, num_steps=3, max_atoms=max_atoms):
        assert set(molecule.z.tolist()) <= {8, 1, 17}
        assert 1 <= molecule.num_nodes <= max_atoms
        assert molecule.pos.shape == (molecule.num_nodes, 3) and molecule.pos.dtype == torch.float32
        assert molecule.pos.isfinite().all()
        assert molecule.finished or molecule.num_nodes == max_atoms


@pytest.mark.parametrize('variant', VARIANTS[:2], ids=str)
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
            logits[0, model.network.stop] = -torch.inf
            best = logits.argmax(1)[:molecule.num_nodes]
            assert molecule.z.tolist() == torch.tensor(model.elements)[best].tolist()


def test_temperature_and_evaluations_have_an_effect(make_model):
    model = make_model()

    def first_atoms(temperature):
        return {int(m.z[0]) for m in model.generate(40, temperature=temperature, num_steps=3, max_atoms=1)}
    assert len(first_atoms(0.0)) == len(first_atoms(0.01)) == 1 < len(first_atoms(1.0))
    assert not torch.equal(model.generate(1, num_steps=4)[0].pos[:1], model.generate(1, num_steps=9)[0].pos[:1])
    expected = model.generate(1, max_atoms=2, num_steps=NUM_STEPS)[0].pos
    assert torch.equal(model.generate(1, max_atoms=2, num_steps=None)[0].pos, expected)
    a, b = (model.generate(1, num_steps=n, solver='heun', max_atoms=1)[0].pos[0] for n in (61, 121))
    torch.testing.assert_close(a, b, atol=0.05, rtol=0)


@pytest.mark.parametrize('batch_size', [1, 3, 50])
def test_no_row_is_computed_for_nothing(make_model, batch_size):
    """Whatever the batch size: n + 1 types and n places for a molecule of n atoms, none for those that are done."""
    model = make_model()
    molecules, rows = rows_through(model, lambda: model.generate(9, batch_size=batch_size, **FAST))
    sizes = [m.num_nodes for m in molecules]
    assert len(set(sizes)) > 3
    assert rows == dict(type=sum(sizes) + 9, place=sum(sizes))


@pytest.mark.parametrize('slots', [1, 3])
def test_memory_grows_with_the_molecules(make_model, slots):
    model = make_model(order='heavy_first')
    expected = model.generate(8, **FAST)
    scaffold = spread_out(torch.Generator().manual_seed(0), 5, [6, 7])
    completed = model.complete(scaffold, 3, **FAST)
    with patch.object(batch, 'FIRST_SLOTS', slots):
        same(model.generate(8, batch_size=3, **FAST), expected)
        same(model.complete(scaffold, 3, **FAST), completed)


def test_guidance_of_0_is_unconditional_and_1_conditional(make_model):
    model = make_model(num_groups=3, condition_dropout=0.1)
    with torch.no_grad():
        model.condition.groups *= 10
    asked = dict(groups=torch.tensor([1, 0, 1]), **FAST)
    conditional, rows = rows_through(model, lambda: model.generate(5, **asked))
    free = model.generate(5, **FAST)
    at_one, rows_at_one = rows_through(model, lambda: model.generate(5, guidance_scale=1.0, **asked))
    same(at_one, conditional, atol=0)
    assert rows == rows_at_one
    same(model.generate(5, guidance_scale=0.0, **asked), free, atol=0)
    near, doubled = rows_through(model, lambda: model.generate(5, guidance_scale=1 + 1e-6, **asked))
    same(near, conditional)
    assert doubled == {name: 2 * number for name, number in rows.items()}
    same(model.generate(5, guidance_scale=1e-6, **asked), free)
    beyond = model.generate(5, guidance_scale=3.0, **asked)
    same(model.generate(5, guidance_scale=3.0, batch_size=2, **asked), beyond)
    with pytest.raises(AssertionError):
        same(beyond, conditional)
