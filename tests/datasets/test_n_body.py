import numpy as np
import pytest
import torch

from torch_geometric_inertial.datasets import NBody, n_body
from torch_geometric_inertial.datasets.n_body import coulomb_forces, draw_initial, generate_splits, simulate


@pytest.fixture(scope='module')
def first():
    """The first 200 trajectories of the training split."""
    return simulate(*draw_initial(200, np.random.RandomState(n_body.SEED)))


def test_the_first_trajectory_is_that_of_the_reference_simulator(first):
    assert first.charge[0].tolist() == [-1, 1, -1, -1, -1]
    np.testing.assert_allclose(first.pos[0, :, 0], [2.989116, 1.769370, -1.171294], atol=1e-6)
    np.testing.assert_allclose(first.vel[0, :, 0], [1.133811, 0.395681, -0.226607], atol=1e-6)
    np.testing.assert_allclose(first.target[0, :, 0], [4.165500, 2.191309, -1.382619], atol=1e-6)


def test_statistics_of_the_first_200_are_those_of_the_reference_simulator(first):
    moved = first.target - first.pos
    distance = np.sqrt((moved**2).sum(axis=1))
    assert distance.mean() == pytest.approx(0.8053, abs=1e-3)
    assert distance.max() == pytest.approx(2.375, abs=1e-3)
    assert (moved**2).mean() == pytest.approx(0.26751, rel=1e-2)  # a BLAS that rounds otherwise stays within these
    assert 0.10 < ((moved - first.vel)**2).mean() < 0.14
    time = (moved * first.vel).sum() / (first.vel**2).sum()
    assert ((moved - time * first.vel)**2).mean() == pytest.approx(0.0928, rel=0.1)


def test_forces_obey_newton_and_coulomb():
    pos = np.zeros((1, 3, 5))
    pos[0, 0] = [0, 2, 50, 90, 140]
    force = coulomb_forces(np.array([[1.0, -1.0, 1.0, 1.0, 1.0]]), pos)
    assert force[0, 0, 0] == pytest.approx(0.25, rel=1e-2)  # attracted by its neighbor, 1 / 2²
    np.testing.assert_allclose(force.sum(axis=-1), 0, atol=1e-14)


def test_an_encounter_is_a_cut_off_force_in_the_window():
    charge = np.array([[1.0, -1.0, 1.0, 1.0, 1.0]] * 2)
    pos = np.zeros((2, 3, 5))
    pos[:, 0] = [0, 0.4, 60, 90, 140]
    pos[1, 0, 1] = 30
    result = simulate(charge, pos, np.zeros((2, 3, 5)))  # the first pair swings through each other for ever
    assert result.encounter.tolist() == [True, False]


def test_initial_speed_and_box():
    _, pos, vel = draw_initial(50, np.random.RandomState(0))
    np.testing.assert_allclose(np.sqrt((vel**2).sum(axis=1)), n_body.INITIAL_SPEED)
    assert np.abs(pos).max() <= n_body.BOX


@pytest.fixture
def small(monkeypatch):
    for name, sizes in (('DRAWN', dict(train=6, val=3, test=2)), ('KEPT', dict(train=4, val=3, test=2))):
        monkeypatch.setattr(n_body, name, sizes)


@pytest.mark.usefixtures('small')
def test_the_data_set_holds_what_the_simulator_gives(tmp_path):
    with pytest.warns(UserWarning, match='split differs in the last bits') as caught:
        data = NBody(str(tmp_path), 'train')
    assert len(caught) == 3  # these are shorter splits
    expected = simulate(*(x[:4] for x in draw_initial(4, np.random.RandomState(n_body.SEED))))
    assert len(data) == 4 and len(NBody(str(tmp_path), 'test')) == 2
    for i, item in enumerate(data):
        assert item.pos.shape == item.vel.shape == item.y.shape == (5, 3)
        torch.testing.assert_close(item.y.double(), torch.from_numpy(expected.target[i].T), atol=1e-6, rtol=1e-6)
        assert item.charge.tolist() == expected.charge[i].tolist() and item.z.tolist() == (item.charge > 0).tolist()
        assert bool(item.encounter) == bool(expected.encounter[i])


@pytest.mark.usefixtures('small')
@pytest.mark.filterwarnings('ignore:the simulated')
def test_filter_and_transform_apply_once(tmp_path):
    data = NBody(str(tmp_path), 'val', pre_filter=lambda item: item.z.sum() != 1,
                 pre_transform=lambda item: item.update(dict(seen=torch.ones(1))))
    assert all(item.seen == 1 and item.z.sum() != 1 for item in data)


def test_unknown_split(tmp_path):
    with pytest.raises(ValueError, match=r"'split' must be 'train', 'val' or 'test' \(got 'valid'\)"):
        NBody(str(tmp_path), 'valid')


@pytest.mark.slow
def test_the_full_splits_have_the_stored_digests(recwarn):
    linear = {}
    for split, data in generate_splits():
        moved = data.target - data.pos
        time = (moved * data.vel).sum() / (data.vel**2).sum()
        linear[split] = ((moved - time * data.vel)**2).mean()
    assert not recwarn.list
    assert linear == pytest.approx(dict(train=0.0871, val=0.0832, test=0.0841), abs=1e-4)
