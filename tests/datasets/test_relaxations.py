import numpy as np
import pytest
import torch

from torch_geometric_inertial.datasets import guess_tags, read_relaxations


@pytest.fixture
def archive(shared_data):
    return shared_data / 'oc20_debug_traj' / 'oc20_30.npz'


def test_relaxations_of_the_archive(archive):
    systems = read_relaxations(archive)
    assert len(systems) == 30 and sum(s.num_nodes for s in systems) == 2354
    for s in systems:
        moved = (s.pos_relaxed - s.pos).norm(dim=1)
        assert float(moved[s.fixed].max()) < 1e-4 < float(moved[~s.fixed].max())
        assert float(s.energy) < float(s.energy_initial)  # a relaxation goes down
        assert s.cell.shape == (1, 3, 3) and s.pbc.tolist() == [[True] * 3]
    assert systems[0].name == 'random1000100' and systems[0].energy.dtype == torch.float64


@pytest.fixture
def frames():
    ase = pytest.importorskip('ase')
    from ase.build import add_adsorbate, fcc111
    from ase.calculators.singlepoint import SinglePointCalculator
    from ase.constraints import FixAtoms
    slab = fcc111('Cu', (2, 2, 3), vacuum=6.0)
    add_adsorbate(slab, ase.Atoms('CO', [(0, 0, 0), (0, 0, 1.15)]), 1.8, 'ontop')
    slab.pbc = True
    slab.set_constraint(FixAtoms(mask=slab.get_tags() == 3))
    slab.set_tags([0] * 8 + [1] * 4 + [2] * 2)
    out = []
    for step, energy in enumerate((-10.5, -11.0, -11.25)):
        frame = slab.copy()
        frame.positions[8:] += [0.0, 0.0, 0.1 * step]
        frame.calc = SinglePointCalculator(frame, energy=energy, forces=np.zeros((14, 3)))
        out.append(frame)
    return out


@pytest.mark.parametrize('suffix', ['traj', 'extxyz'])
def test_first_and_last_frame_of_a_trajectory(frames, tmp_path, suffix):
    from ase.io import write
    columns = dict(columns=['symbols', 'positions', 'tags', 'move_mask']) if suffix == 'extxyz' else {}
    write(tmp_path / f'random7.{suffix}', frames, **columns)
    s, = read_relaxations(tmp_path / f'random7.{suffix}')
    assert s.name == 'random7' and s.z.tolist() == [29] * 12 + [6, 8]
    assert (float(s.energy_initial), float(s.energy)) == (-10.5, -11.25)
    torch.testing.assert_close((s.pos_relaxed - s.pos)[8:], torch.tensor([0.0, 0.0, 0.2]).expand(6, 3))
    assert s.tags.tolist() == [0] * 8 + [1] * 4 + [2] * 2
    assert s.fixed.tolist() == [True] * 4 + [False] * 10
    np.testing.assert_allclose(s.cell[0].numpy(), np.asarray(frames[0].cell), rtol=1e-6)


def test_trajectories_without_energies_or_of_other_atoms(frames, tmp_path):
    from ase.io import write
    write(tmp_path / 'bare.traj', [frame.copy() for frame in frames])
    write(tmp_path / 'other.traj', [frames[0], frames[1][:-1]])
    with pytest.raises(ValueError, match=r'frame of .*bare\.traj. must have energies'):
        read_relaxations(tmp_path / 'bare.traj')
    with pytest.raises(ValueError, match=r'frame of .*other\.traj. must have the same atoms'):
        read_relaxations(tmp_path / 'other.traj')


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match=r"'files' must name at least one file \(got none\)"):
        read_relaxations([])
    with pytest.raises(ValueError, match=r"there is no file '.*nowhere\.traj'"):
        read_relaxations(tmp_path / 'nowhere.traj')
    np.savez(tmp_path / 'lacking.npz', z=np.zeros(1), ptr=np.zeros(2))
    with pytest.raises(ValueError, match=r"must hold z, pos_initial, .* \(got \['ptr', 'z'\]\)"):
        read_relaxations(tmp_path / 'lacking.npz')


def test_guessed_tags():
    z, fixed = torch.tensor([29, 29, 6, 8, 6]), torch.tensor([True, False, False, False, True])
    assert guess_tags(z, fixed).tolist() == [0, 1, 2, 2, 0]
