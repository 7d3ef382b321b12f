import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.frames import random_rotations
from torch_geometric_inertial.superpose import centered, kabsch_rotations, superpose, superposed_rmsd
from torch_geometric_inertial.testing import degenerate_molecules

SHAPES = {name: data.pos.double() for name, data in degenerate_molecules().items()}


def packed(sizes, seed):
    g = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    return torch.randn(2, int(ptr[-1]), 3, generator=g, dtype=torch.float64), ptr, g


def moved(pos, ptr, g):
    """Each molecule turned and shifted in its own way."""
    molecule = torch.repeat_interleave(ptr.diff())
    turn = random_rotations(ptr.numel() - 1, 180, g).double()
    shift = 10 * torch.randn(ptr.numel() - 1, 3, generator=g, dtype=torch.float64)
    return torch.einsum('tij,tj->ti', turn[molecule], pos) + shift[molecule]


lists_of_sizes = st.lists(st.integers(1, 9), min_size=1, max_size=5)


@settings(max_examples=40, deadline=None)
@given(sizes=lists_of_sizes, seed=st.integers(0, 1000))
def test_a_rigid_motion_is_undone(sizes, seed):
    (pos, _), ptr, g = packed(sizes, seed)
    target = moved(pos, ptr, g)
    torch.testing.assert_close(superpose(pos, target, ptr), target, atol=1e-5, rtol=0)  # the rotations are float32
    assert float(superposed_rmsd(pos, target, ptr).max()) < 1e-5


@settings(max_examples=40, deadline=None)
@given(sizes=lists_of_sizes, seed=st.integers(0, 1000))
def test_rotations_are_proper_and_no_other_is_better(sizes, seed):
    (pos, target), ptr, g = packed(sizes, seed)
    turn = kabsch_rotations(pos, target, ptr)
    eye = torch.eye(3, dtype=torch.float64).expand_as(turn)
    torch.testing.assert_close(turn @ turn.mT, eye, atol=1e-12, rtol=0)
    torch.testing.assert_close(torch.linalg.det(turn), torch.ones(len(sizes), dtype=torch.float64))
    best = superposed_rmsd(pos, target, ptr)
    molecule = torch.repeat_interleave(ptr.diff())
    for degrees in (1, 20, 180):
        other = random_rotations(len(sizes), degrees, g).double() @ turn
        off = torch.einsum('tij,tj->ti', other[molecule], centered(pos, ptr)) - centered(target, ptr)
        rmsd = (torch.zeros(len(sizes), dtype=torch.float64).index_add(0, molecule, off.square().sum(1))
                / ptr.diff()).sqrt()
        assert bool((rmsd >= best - 1e-6).all())  # the other rotations are float32


@settings(max_examples=40, deadline=None)
@given(sizes=lists_of_sizes, seed=st.integers(0, 1000))
def test_the_distance_knows_no_pose_and_no_direction(sizes, seed):
    (pos, target), ptr, g = packed(sizes, seed)
    rmsd = superposed_rmsd(pos, target, ptr)
    torch.testing.assert_close(superposed_rmsd(moved(pos, ptr, g), target, ptr), rmsd, atol=1e-6, rtol=0)
    torch.testing.assert_close(superposed_rmsd(target, pos, ptr), rmsd, atol=1e-7, rtol=0)
    together = superpose(pos, target, ptr)
    for i, (a, b) in enumerate(zip(ptr[:-1], ptr[1:], strict=True)):  # a batch is its molecules, one by one
        alone = superpose(pos[a:b], target[a:b], torch.tensor([0, int(b - a)]))
        torch.testing.assert_close(alone, together[a:b], atol=1e-9, rtol=0, msg=f'molecule {i}')


@pytest.mark.parametrize('name', sorted(SHAPES))
def test_shapes_that_leave_freedom(name):
    pos = SHAPES[name]
    ptr = torch.tensor([0, len(pos)])
    target = moved(pos, ptr, torch.Generator().manual_seed(3))
    turn = kabsch_rotations(pos, target, ptr)
    assert float(torch.linalg.det(turn)) == pytest.approx(1.0, abs=1e-9)
    torch.testing.assert_close(superpose(pos, target, ptr), target, atol=1e-5, rtol=0)


def test_a_mirror_image_stays_one():
    pos = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3]], dtype=torch.float64)
    ptr = torch.tensor([0, 4])
    assert float(superposed_rmsd(pos, -pos, ptr)) > 0.3
    flat = pos[:3]
    assert float(superposed_rmsd(flat, -flat, torch.tensor([0, 3]))) < 1e-9  # a plane turns into its mirror image


def test_a_known_turn():
    pos = torch.tensor([[1.0, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 1], [0, 0, -1]])
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    turn = kabsch_rotations(pos, pos @ quarter.T + 5, torch.tensor([0, 5]))
    torch.testing.assert_close(turn[0], quarter.double(), atol=1e-6, rtol=0)
    assert superpose(pos, pos, torch.tensor([0, 5])).dtype == pos.dtype


def test_errors():
    pos, ptr = torch.zeros(4, 3), torch.tensor([0, 2, 4])
    with pytest.raises(ValueError, match=r"'pos' and 'target' must be \[T, 3\] \(got \[4, 3\] and \[3, 3\]\)"):
        superpose(pos, pos[:3], ptr)
    pos[3, 1] = torch.nan
    with pytest.raises(ValueError, match=r"'pos' and 'target' must be finite \(got molecule 1 that is not\)"):
        superpose(pos, torch.zeros(4, 3), ptr)
