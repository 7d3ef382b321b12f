import inspect
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from torch_geometric_inertial import frame_candidates, frames
from torch_geometric_inertial.elements import MIN_DISTANCE
from torch_geometric_inertial.frames import Frames, check_apart, from_frame, inertial_frames, to_frame
from torch_geometric_inertial.testing import degenerate_molecules, random_motion, random_rotation

MOLECULES = degenerate_molecules()
quick = settings(max_examples=40, deadline=None)


def cloud(seed, size):
    generator = torch.Generator().manual_seed(seed)
    pos = 2 * torch.randn(size, 3, generator=generator, dtype=torch.float64)
    return pos, torch.randint(1, 10, (size,), generator=generator)


def one(pos, z, weight=None, **kwargs):
    ptr = torch.tensor([0, len(z)])
    frames = inertial_frames(pos, z, ptr, weight, **kwargs)
    return frames, to_frame(pos, frames, ptr)


def same_set(za, a, zb, b, atol):
    """Whether each atom of one set has an atom of the same element where it is in the other."""
    gap = torch.cdist(a, b) + 1e3 * (za[:, None] != zb[None])
    return bool((gap.amin(1) < atol).all() and (gap.amin(0) < atol).all())


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_the_canonical_set_does_not_depend_on_pose_or_labels(seed, size):
    pos, z = cloud(seed, size)
    turn, label = random_rotation(seed), torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    _, a = one(pos, z)
    _, b = one((pos @ turn.T + 3.0)[label], z[label])
    assert same_set(z[label], a[label], z[label], b, 1e-7)


@pytest.mark.parametrize('name', MOLECULES)
def test_degenerate_molecules_keep_their_canonical_set(name):
    molecule = MOLECULES[name]
    _, a = one(molecule.pos, molecule.z)
    for seed in range(5):
        other = random_motion(molecule, seed)
        _, b = one(other.pos, other.z)
        assert same_set(molecule.z, a, other.z, b, 1e-6)


@pytest.mark.parametrize('name', MOLECULES)
def test_nearly_symmetric_molecules_keep_their_canonical_set(name):
    molecule = MOLECULES[name].clone()
    noise = torch.randn(molecule.pos.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    molecule.pos = molecule.pos + 1e-4 * noise
    _, a = one(molecule.pos, molecule.z)
    for seed in range(5):
        other = random_motion(molecule, seed)
        _, b = one(other.pos, other.z)
        assert same_set(molecule.z, a, other.z, b, 1e-6)


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(4, 12))
def test_axes_are_principal_right_handed_and_ascending(seed, size):
    pos, z = cloud(seed, size)
    frames, y = one(pos, z)
    axes = frames.axes[0]
    torch.testing.assert_close(axes.T @ axes, torch.eye(3, dtype=torch.float64), atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(axes), torch.tensor(1.0, dtype=torch.float64))
    torch.testing.assert_close(frames.center[0], pos.mean(0))
    second = y.T @ y / size
    torch.testing.assert_close(second, torch.diag(second.diagonal()), atol=1e-9, rtol=0)
    assert (second.diagonal().diff() <= 1e-9).all()  # extent falls as the moment rises


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(4, 12))
def test_the_farthest_atom_off_the_planes_has_positive_x_and_y(seed, size):
    pos, z = cloud(seed, size)
    frames, y = one(pos, z, tie_weight=0.0, plane_width=1e-6)
    anchor = y[y.norm(dim=1).argmax()]
    assert anchor[0] > 0 and anchor[1] > 0
    assert frames.margin > 0


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(4, 12))
def test_mirror_images_stay_distinct(seed, size):
    pos, z = cloud(seed, size)
    _, a = one(pos, z)
    _, b = one(-pos, z)
    assume(torch.linalg.svdvals(a - a.mean(0))[-1] > 0.05)  # a flat molecule is its own mirror image
    assert not same_set(z, a, z, b, 1e-3)
    assert torch.linalg.det(torch.linalg.lstsq(a, b).solution) < 0


def test_both_hands_are_two_molecules():
    right, left = MOLECULES['CHFClBr R'], MOLECULES['CHFClBr S']
    assert not same_set(right.z, one(right.pos, right.z)[1], left.z, one(left.pos, left.z)[1], 0.1)


@quick
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6))
def test_a_batch_is_its_molecules(seed, sizes):
    clouds = [cloud(seed + k, size) for k, size in enumerate(sizes)]
    clouds.append((MOLECULES['CH4'].pos, MOLECULES['CH4'].z))
    ptr = torch.tensor([0, *(len(z) for _, z in clouds)]).cumsum(0)
    batch = inertial_frames(torch.cat([p for p, _ in clouds]), torch.cat([z for _, z in clouds]), ptr)
    for k, (pos, z) in enumerate(clouds):
        single, _ = one(pos, z)
        torch.testing.assert_close(batch.center[k], single.center[0])
        torch.testing.assert_close(batch.axes[k], single.axes[0], atol=1e-9, rtol=0)
        torch.testing.assert_close(batch.margin[k], single.margin[0], atol=1e-9, rtol=0)


def test_chunks_are_the_whole(monkeypatch):
    clouds = [cloud(k, 1 + k % 7) for k in range(50)]
    pos, z = torch.cat([p for p, _ in clouds]), torch.cat([z for _, z in clouds])
    ptr = torch.tensor([0, *(len(z) for _, z in clouds)]).cumsum(0)
    whole = inertial_frames(pos, z, ptr)
    for part in (frames, frame_candidates):
        monkeypatch.setattr(part, 'CHUNK', 64)
    for a, b in zip(whole, inertial_frames(pos, z, ptr), strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12))
def test_from_frame_undoes_to_frame(seed, size):
    pos, z = cloud(seed, size)
    frames, y = one(pos, z)
    torch.testing.assert_close(from_frame(y, frames, torch.tensor([0, size])), pos)
    assert to_frame(pos.float(), frames, torch.tensor([0, size])).dtype == torch.float32


@quick
@given(seed=st.integers(0, 10**6), size=st.integers(4, 12))
def test_a_canonical_set_is_its_own_canonical_set(seed, size):
    pos, z = cloud(seed, size)
    _, y = one(pos, z)
    torch.testing.assert_close(one(y, z)[1], y, atol=1e-7, rtol=0)


def test_weights_move_the_center():
    molecule = MOLECULES['HCN']
    weight = torch.tensor([1.0, 12.0, 14.0])
    frames, _ = one(molecule.pos, molecule.z, weight)
    torch.testing.assert_close(frames.center[0], (weight[:, None] * molecule.pos).sum(0) / 27)


def test_margin_is_the_distance_to_a_tie_of_moments():
    """Three atoms on the axes: moving one through the tie takes the margin through zero at the tolerance."""
    def margin(scale):
        pos = torch.tensor([[1., 0, 0], [-1, 0, 0], [0, scale, 0], [0, -scale, 0], [0, 0, .3], [.2, .1, -.3]])
        return float(one(pos.double(), torch.tensor([6, 6, 7, 7, 8, 1]))[0].margin)
    margins = [margin(1.0 + 0.002 * k) for k in range(-60, 61)]
    assert min(margins) < 2e-3 < max(margins)


def test_equivalent_frames_do_not_lower_the_margin():
    """The two hydrogens of water are equally far, and either choice gives the same set."""
    assert one(MOLECULES['H2O'].pos, MOLECULES['H2O'].z)[0].margin > 0.1
    assert one(MOLECULES['H'].pos, MOLECULES['H'].z)[0].margin == 1
    assert one(MOLECULES['CO2'].pos, MOLECULES['CO2'].z)[0].margin == 1


def test_draws_stay_within_the_spread():
    """The anchor pair of a Cs molecule: two frames, both drawn; a margin above the spread leaves one."""
    pos = torch.tensor([[2., 1, 0], [2, -1, 0], [-2.5, 0, .2], [0, 0, 1.], [0.5, 0, -.7]], dtype=torch.float64)
    z = torch.tensor([9, 9, 6, 7, 8])
    generator = torch.Generator().manual_seed(0)
    frames, _ = one(pos, z)
    draws = [one(pos, z, spread=0.02, generator=generator)[0].axes[0] for _ in range(20)]
    kinds = {tuple(d.flatten().mul(1e3).round().long().tolist()) for d in draws}
    assert len(kinds) == 2
    assert all(torch.linalg.det(d) > 0.999 for d in draws)
    single = [one(pos, z, spread=0.0, generator=generator)[0].axes[0] for _ in range(5)]
    assert all(torch.equal(s, frames.axes[0]) for s in single)


def test_draws_at_a_tie_of_moments_are_frames_of_the_same_molecule():
    molecule = MOLECULES['trimethylamine']
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        frames, y = one(molecule.pos, molecule.z, spread=0.05, generator=generator)
        torch.testing.assert_close(torch.cdist(y, y), torch.cdist(molecule.pos, molecule.pos), atol=1e-9, rtol=0)
        torch.testing.assert_close(torch.linalg.det(frames.axes[0]), torch.tensor(1.0, dtype=torch.float64))


def test_global_random_state_is_left_alone():
    before = torch.random.get_rng_state()
    one(*cloud(0, 5), spread=0.1, generator=torch.Generator().manual_seed(0))
    assert torch.equal(before, torch.random.get_rng_state())


def shell(size, radius):
    """Points spread evenly over a sphere: a spherical top of many atoms that are equally far."""
    i = torch.arange(size, dtype=torch.float64) + 0.5
    tilt, turn = torch.acos(1 - 2 * i / size), math.pi * (1 + 5 ** 0.5) * i
    return radius * torch.stack([turn.cos() * tilt.sin(), turn.sin() * tilt.sin(), tilt.cos()], 1)


def test_blocks_of_candidates_are_the_whole(monkeypatch):
    """A shell, a ring and a small molecule, with few rows in memory at a time: the same frames, bit for bit."""
    ring = torch.tensor([[math.cos(t), math.sin(t), 0.0] for t in torch.arange(12) * math.pi / 6], dtype=torch.float64)
    sets = [shell(60, 3.5), 2 * ring, MOLECULES['furan'].pos, MOLECULES['cubane'].pos]
    ptr = torch.tensor([0, *map(len, sets)]).cumsum(0)
    pos, z = torch.cat(sets), torch.full((int(ptr[-1]),), 6)
    whole = inertial_frames(pos, z, ptr)
    monkeypatch.setattr(frame_candidates, 'BLOCK', 500)
    monkeypatch.setattr(frame_candidates, '_turned_waves', bounded(frame_candidates._turned_waves, rows=560))
    for a, b in zip(whole, inertial_frames(pos, z, ptr), strict=True):
        assert torch.equal(a, b)


def bounded(function, rows):
    def checked(cand, turn, y, scale, ptr, *rest):
        assert int(ptr.diff()[cand].sum()) <= rows
        return function(cand, turn, y, scale, ptr, *rest)
    return checked


def test_memory_of_a_shell_is_bounded():
    """In a process of its own: 300 atoms once took 1.7 GiB, growing with the cube of their number."""
    code = f"""
import math, resource, torch
from torch_geometric_inertial.frames import inertial_frames
{inspect.getsource(shell)}
pos, z = shell(300, 7.6), torch.full((300,), 6)
inertial_frames(pos[:40], z[:40], torch.tensor([0, 40]))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
inertial_frames(pos, z, torch.tensor([0, 300]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 400 << 10  # KiB


@quick
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 12), min_size=1, max_size=5),
       spread=st.sampled_from([0.3, 1.0, 3.0]), flat=st.booleans())
def test_coincident_atoms_are_found_by_the_sweep_as_by_all_pairs(seed, sizes, spread, flat):
    g = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    pos = spread * torch.randn(int(ptr[-1]), 3, generator=g)
    if flat:
        pos = pos - (pos @ torch.tensor(frames._SWEEP))[:, None] * torch.tensor(frames._SWEEP)
    molecule = torch.repeat_interleave(ptr.diff())
    near = torch.cdist(pos.double(), pos.double(), compute_mode='donot_use_mm_for_euclid_dist') < MIN_DISTANCE
    u, v = (near & (molecule[:, None] == molecule) & torch.ones_like(near).triu(1)).nonzero().T
    z = torch.full((len(pos),), 8)
    if len(u) == 0:
        check_apart(pos, z, ptr)
        return
    a, b = (int(i[0] - ptr[molecule[u[0]]]) for i in (u, v))
    with pytest.raises(ValueError, match=rf'must be at least 0.4 Å apart .* between atom {a}, O, and atom {b}, O\)'):
        check_apart(pos, z, ptr)


def test_no_molecules_have_no_frames():
    frames = inertial_frames(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), torch.tensor([0]))
    assert isinstance(frames, Frames) and frames.axes.shape == (0, 3, 3)


def arguments(**changed):
    given = {'pos': torch.eye(3), 'z': torch.tensor([1, 1, 8]), 'ptr': torch.tensor([0, 3])}
    return {**given, **changed}


@pytest.mark.parametrize('changed, message', [
    ({'pos': torch.zeros(3, 2)}, r"'pos' must be a floating point tensor of shape \[T, 3\] .*\[3, 2\]"),
    ({'pos': torch.zeros(3, 3, dtype=torch.long)}, "'pos' must be a floating point tensor .*int64"),
    ({'z': torch.tensor([1, 1])}, r"'z' must hold one atomic number for each of the 3 positions \(got shape \[2\]\)"),
    ({'ptr': torch.tensor([0, 2])}, r"'ptr' must run from 0 to the number of positions, 3 \(got \[0, 2\]\)"),
    ({'ptr': torch.tensor([0, 3, 3])}, r'a molecule must have at least one atom \(molecule 1 has none\)'),
    ({'pos': torch.tensor([[0., 0, 0], [1, float('nan'), 0], [0, 0, 1]])}, "'pos' must be finite .*atom 1; 1 in all"),
    ({'pos': torch.tensor([[0., 0, 0], [1, 1, 0], [0, 0, float('inf')]])}, "'pos' must be finite .*at atom 2"),
    ({'ptr': torch.tensor([0, 5, 3])}, r"'ptr' must ascend from 0 to the number of positions, 3 \(got \[0, 5, 3\]\)"),
    ({'pos': 1e10 * torch.eye(3)}, r"'pos' must lie within 1e\+06 Å of the origin \(got \[10000000000.0, .* at atom 0"),
    ({'z': torch.tensor([1, 0, 8])}, r"'z' must be at least 1 \(got 0 at atom 1\)"),
    ({'z': torch.tensor([1., 1, 8])}, r"'z' must hold whole numbers \(got torch.float32\)"),
    ({'weight': torch.tensor([1., 0, 1])}, "'weight' must hold one positive number for each of the 3 atoms"),
    ({'weight': torch.ones(2)}, r"'weight' must hold one positive number .*shape \[2\]"),
])
def test_bad_input_is_named(changed, message):
    with pytest.raises(ValueError, match=message):
        inertial_frames(**arguments(**changed))
