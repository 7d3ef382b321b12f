import pytest
import torch
from helpers.conformer_cases import conformer_set
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.superpose import superpose, superposed_rmsd
from torch_geometric_inertial.training import RelaxationInput

LABEL, BETWEEN, CHEAP = (dict(label=1.0, between=0.0), dict(label=0.0, between=1.0), dict(label=0.0, between=0.0))


def drawn(num=24, seed=0, conformers=3, **kwargs):
    batch = conformer_set(num, conformers).batch()
    return RelaxationInput(**kwargs)(batch, torch.Generator().manual_seed(seed))


@given(kwargs=st.sampled_from([LABEL, BETWEEN, CHEAP, {}]), seed=st.integers(0, 1000))
def test_input_and_target_are_centred_and_in_one_pose(kwargs, seed):
    batch = drawn(8, seed, **kwargs)
    for pos in (batch.pos, batch.pos_relaxed):
        assert float(pos.view(8, 3, 3).mean(1).abs().max()) < 1e-6
    torch.testing.assert_close(superpose(batch.pos, batch.pos_relaxed, batch.ptr), batch.pos, atol=1e-5, rtol=0)
    before = conformer_set(8).atom_columns['pos_relaxed']
    assert float(superposed_rmsd(batch.pos_relaxed, before, batch.ptr).max()) < 1e-5


def test_shares_of_the_three_kinds():
    batch = drawn(4000, noise=0.0, mix=(0.5, 0.5), conformers=1)
    size = batch.pos_relaxed.view(-1, 9).norm(dim=1)
    stretch = batch.pos.view(-1, 9).norm(dim=1) / size  # 1 near the label, 1.05 half way, 1.1 for the conformer
    shares = [float(((stretch - s).abs() < 1e-3).float().mean()) for s in (1.0, 1.05, 1.1)]
    assert sum(shares) == pytest.approx(1.0)
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)  # three standard deviations of 4,000 draws


def test_noise_has_the_spread_that_was_asked_for():
    batch = drawn(4000, noise=0.2, **LABEL)
    off = (batch.pos - batch.pos_relaxed).square().sum() / (4000 * 3)  # 3 of 9 coordinates are neither shift nor turn
    assert float(off) == pytest.approx(0.04, rel=0.05)


def test_the_mix_is_drawn_from_its_range():
    batch = drawn(2000, conformers=1, **BETWEEN)
    stretch = batch.pos.view(-1, 9).norm(dim=1) / batch.pos_relaxed.view(-1, 9).norm(dim=1)
    weight = (1.1 - stretch) / 0.1
    assert 0.399 < float(weight.min()) < 0.405 and 0.595 < float(weight.max()) < 0.601
    assert float(weight.mean()) == pytest.approx(0.5, abs=0.005)


def test_every_conformer_that_there_is_and_no_other_is_drawn():
    data = conformer_set(300)
    data.atom_columns['conformers'] *= torch.tensor([1.0, 2.0, 4.0]).view(1, 3, 1)
    data.molecule_columns['num_conformers'] = torch.full((300, ), 2)
    batch = RelaxationInput(**CHEAP)(data.batch(), torch.Generator().manual_seed(0))
    size = (batch.pos.view(-1, 9).norm(dim=1) / batch.pos_relaxed.view(-1, 9).norm(dim=1) / 1.1).round()
    assert set(size.tolist()) == {1.0, 2.0}
    assert 110 < int((size == 1).sum()) < 190


def test_the_same_generator_gives_the_same_input():
    assert torch.equal(drawn(seed=5).pos, drawn(seed=5).pos)
    assert not torch.equal(drawn(seed=5).pos, drawn(seed=6).pos)


@pytest.mark.parametrize('arguments, message', [
    (dict(label=0.8, between=0.3), r"'label' and 'between' must be shares whose sum is at most 1 \(got 0.8 and 0.3\)"),
    (dict(label=-0.1), r"'label' and 'between' must be shares .* \(got -0.1 and 0.1\)"),
    (dict(noise=-1.0), r"'noise' must not be negative \(got -1.0\)"),
    (dict(mix=(0.6, 0.4)), r"'mix' must be a range within \[0, 1\] \(got \(0.6, 0.4\)\)"),
])
def test_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        RelaxationInput(**arguments)


def test_repr():
    assert repr(RelaxationInput()) == 'RelaxationInput(label=0.8, between=0.1, noise=0.2, mix=(0.4, 0.6))'
