r"""GeoMFormer under rotations, reflections, translations and permutations, alone and in batches."""
import pytest
import torch
from helpers.predictors import MOLECULES, SIZES, VARIANTS, batch_of, close, cloud, run, small, turn_of
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from torch_geometric_inertial.testing import assert_equivariant, random_motion, random_rotation


@pytest.mark.parametrize('name', VARIANTS)
def test_scalars_stay_and_vectors_turn(name):
    model = small(**VARIANTS[name])
    data = batch_of(*(cloud(n, n) for n in SIZES))
    scalars, vectors = run(model, data)
    assert vectors.abs().max() > 1e-3 and scalars.std() > 1e-3
    for seed in range(4):
        turn = turn_of(seed)
        turned = Data(z=data.z, pos=data.pos @ turn.T, batch=data.batch)
        other_scalars, other_vectors = run(model, turned)
        close(other_scalars, scalars)
        close(other_vectors, vectors @ turn.T, 1e-9)


@given(seed=st.integers(0, 10**6), size=st.sampled_from(SIZES))
def test_energies_and_forces_under_motions_and_permutations(seed, size):
    model, data = small(vector_head='conservative'), cloud(size, seed)
    moved = random_motion(data, seed, shift=1e3)
    close(run(model, moved)[0], run(model, data)[0], 1e-9)
    assert_equivariant(lambda molecule: run(model, molecule)[1], data, seed=seed, atol=1e-8)


def test_float32_far_away_and_planar():
    model = small(dtype=torch.float32, vector_head='conservative')
    for name, size, tolerance in (('cloud', 12, 1e-4), ('C6H6', 0, 1e-3)):
        data = cloud(size, 1) if name == 'cloud' else MOLECULES[name]
        data = Data(z=data.z, pos=data.pos.float())
        scalars, vectors = run(model, data)
        for seed in range(4):
            turn = turn_of(seed).float()
            other_scalars, other_vectors = run(model, Data(z=data.z, pos=data.pos @ turn.T))
            close(other_scalars, scalars, tolerance)
            close(other_vectors, vectors @ turn.T, tolerance)
        close(run(model, Data(z=data.z, pos=data.pos + 1e3))[1], vectors, 1e-3)


@pytest.mark.parametrize('name', VARIANTS)
def test_a_molecule_does_not_see_its_batch(name):
    model, molecules = small(**VARIANTS[name]), [cloud(n, n) for n in (7, 1, 21, 3)]
    alone = [run(model, m) for m in molecules]
    for order in ((0, 1, 2, 3), (2, 3, 0, 1)):
        scalars, vectors = run(model, batch_of(*(molecules[k] for k in order)))
        close(scalars, torch.cat([alone[k][0] for k in order]))
        close(vectors, torch.cat([alone[k][1] for k in order]))


@pytest.mark.parametrize('name', ['paper', 'more', 'conservative'])
def test_vectors_of_a_planar_molecule_stay_in_its_plane(name):
    vectors = run(small(**VARIANTS[name]), MOLECULES['C6H6'])[1]
    assert vectors[:, :2].abs().max() > 1e-3
    assert vectors[:, 2].abs().max() < 1e-9


@pytest.mark.parametrize('name', ['paper', 'more', 'mean'])
def test_training_mode_is_equivariant_and_random(name):
    rates = dict(input_dropout=0.2, attention_dropout=0.2, activation_dropout=0.2, dropout=0.2, drop_path=0.2)
    model, data = small(**VARIANTS[name], **rates).train(), batch_of(cloud(7, 1), cloud(4, 2))

    def draw(pos, seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return model(data.z, pos, data.batch)
    turn = turn_of(1)
    scalars, vectors = draw(data.pos, 3)
    other_scalars, other_vectors = draw(data.pos @ turn.T, 3)
    close(other_scalars, scalars)
    close(other_vectors, vectors @ turn.T, 1e-9)
    assert (draw(data.pos, 4)[1] - vectors).abs().max() > 1e-3


def test_mirror_images_look_alike_unless_chiral():
    left, right = MOLECULES['CHFClBr R'], MOLECULES['CHFClBr S']
    model = small(directional=True, equivariant_init='neighbors')
    close(run(model, left)[0], run(model, right)[0])
    model = small(chiral=True, equivariant_init='neighbors', directional=True)
    assert (run(model, left)[0] - run(model, right)[0]).abs().max() > 1e-6
    turn = random_rotation(1)
    scalars, vectors = run(model, left)
    turned = run(model, Data(z=left.z, pos=left.pos @ turn.T + 1))
    close(turned[0], scalars)
    close(turned[1], vectors @ turn.T, 1e-9)
