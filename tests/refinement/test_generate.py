r"""Molecules drawn again until they are ok."""
import re

import pytest
import torch
from helpers.generators import FAST, same, small_model

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.refinement import RefinementCounts, generate_refined, relax, stream_refined

pytest.importorskip('rdkit')
HOT = dict(place_temperature=1.8, num_steps=4)  #: About half of the molecules fail.


@pytest.fixture(scope='module')
def model():
    return InertialAR.from_pretrained('qm9')


@pytest.fixture(scope='module')
def refined(model):
    return generate_refined(model, 12, seed=3, **HOT)


def test_each_is_that_of_the_first_attempt_that_does_not_fail(model, refined):
    molecules, counts = refined
    attempts = [data.attempt for data in molecules]
    assert max(attempts) > 0 and evaluate(molecules, 'bonds').ok == 1
    for attempt in range(max(attempts) + 1):
        drawn = model.generate(12, seed=3 + 1_000_003 * attempt, **HOT)
        status = evaluate(drawn, 'bonds').status
        for i, data in enumerate(molecules):
            if attempt == data.attempt:
                same([data], [drawn[i]])
            elif attempt < data.attempt:
                assert status[i] != 'ok'
    assert counts.drawn == sum(attempts) + 12 and counts.failed.total() == sum(attempts) and not counts.missing
    assert counts.fraction_failed == sum(attempts) / counts.drawn
    assert str(counts).startswith(f'{sum(attempts)} of {counts.drawn} molecules drawn failed (')


def test_shards_are_the_whole(model, refined):
    parts = [data for i in range(3) for data in stream_refined(model, 12, seed=3, shard=(i, 3), batch_size=2, **HOT)]
    same(parts, refined[0])
    assert [data.attempt for data in parts] == [data.attempt for data in refined[0]]


def test_relaxed_ones_have_both_geometries_and_the_fall_of_the_energy(model, refined):
    molecules, counts = generate_refined(model, 12, seed=3, relax='mmff', **HOT)
    assert evaluate(molecules, 'bonds').ok == 1 and not counts.missing
    for data, plain in zip(molecules, refined[0], strict=True):
        if data.attempt == plain.attempt:
            torch.testing.assert_close(data.pos_generated, plain.pos, atol=1e-3, rtol=0)
        assert data.energy_drop > 0 and data.rmsd > 0
        assert abs(relax(data).energy_drop) < 0.05


def test_nothing_is_drawn_again_where_all_are_kept(model):
    plain = model.generate(6, seed=3, **HOT)
    molecules, counts = generate_refined(model, 6, seed=3, keep='all', **HOT)
    same(molecules, plain)
    assert counts.drawn == 6 and not counts.failed and 'attempt' not in molecules[0]
    molecules, counts = generate_refined(model, 6, seed=3, keep='all', relax='mmff', **HOT)
    assert counts.drawn == 6 and set(counts.failed) <= {'not_relaxed'}
    assert sum('pos_generated' not in data for data in molecules) == counts.failed.total()
    same([data for data in molecules if 'pos_generated' not in data],
         [data for data, found in zip(plain, molecules, strict=True) if 'pos_generated' not in found])


def test_a_model_without_bonds_is_judged_by_distances():
    counts = RefinementCounts()
    with pytest.raises(ValueError, match='no molecule is left after 2 attempts: 6 of 6 molecules drawn failed'):
        list(stream_refined(small_model(kind='quetzal'), 3, attempts=2, counts=counts, **FAST))
    assert counts.drawn == 6 and counts.missing == {0, 1, 2}


@pytest.mark.parametrize('more, message', [
    (dict(keep='valid'), "'keep' must be one of all, ok (got 'valid')"),
    (dict(attempts=0), "'attempts' must be at least 1 (got 0)"),
    (dict(workers=0), "'workers' must be at least 1 (got 0)"),
    (dict(relax='uff'), "the method of relaxation must be one of mmff, xtb (got 'uff')"),
    (dict(shard=(2, 2)), "'shard' must be (i, n) with 0 <= i < n (got (2, 2))"),
    (dict(temperature=-1), "'temperature' must not be negative (got -1)"),
])
def test_bad_arguments_are_refused_before_anything_is_drawn(model, more, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        stream_refined(model, 2, **more)


def test_the_numbers_of_molecules_may_be_given(model):
    whole = model.generate(5, seed=1, num_steps=2)
    same(list(model.stream(5, seed=1, num_steps=2, index=[4, 1])), [whole[4], whole[1]])
    for index in ([5], [-1], [1, 1]):
        with pytest.raises(ValueError, match="'index' must hold different numbers from 0 to 4"):
            model.stream(5, index=index)
