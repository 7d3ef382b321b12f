import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_geometric_inertial.elements import COVALENT_RADII
from torch_geometric_inertial.nn import LocalFrameBuilder
from torch_geometric_inertial.nn.local_frame import MIN_SINE, find_parents, gather_slots, local_axes
from torch_geometric_inertial.testing import degenerate_molecules, random_rotation

TARGETS = ('absolute', 'local')


def chain(num_atoms, seed):
    """A random branched chain of carbon-like atoms in sequence order, no three on a line [1, N, 3], and its radii."""
    g = torch.Generator().manual_seed(seed)
    pos = [torch.zeros(3, dtype=torch.float64)]
    while len(pos) < num_atoms:
        parent = pos[int(torch.randint(len(pos), (), generator=g))]
        step = torch.nn.functional.normalize(torch.randn(3, generator=g, dtype=torch.float64), dim=0)
        new = parent + 1.45 * step
        if all((new - p).norm() > 1.2 for p in pos):
            pos.append(new)
    return torch.stack(pos)[None], torch.full((1, num_atoms), 0.76, dtype=torch.float64)


def around_each(builder, pos, radius, parent=None):
    """The coordinate systems of all atoms of [B, N] teacher-forced molecules."""
    parent = find_parents(pos, radius) if parent is None else parent
    return builder(pos, radius, parent, torch.arange(pos.size(1)).expand(pos.shape[:2]))


def tensors_of(data):
    pos = data.pos.double()[None]
    return pos, COVALENT_RADII[data.z][None]


@given(size=st.integers(1, 12), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('target', TARGETS)
def test_axes_are_proper_rotations_and_coordinates_come_back(target, size, seed):
    pos, radius = chain(size, seed)
    around = around_each(LocalFrameBuilder(target), pos, radius)
    eye = torch.eye(3, dtype=pos.dtype).expand_as(around.axes)
    torch.testing.assert_close(around.axes.mT @ around.axes, eye)
    torch.testing.assert_close(torch.linalg.det(around.axes), torch.ones(1, size, dtype=pos.dtype))
    torch.testing.assert_close(around.to_global(around.to_local(pos)), pos)
    apart = around.to_local(pos).norm(dim=-1)
    torch.testing.assert_close(apart, (pos - around.origin).norm(dim=-1))  # no volume is made or lost


@given(size=st.integers(2, 12), seed=st.integers(0, 10**6))
def test_absolute_coordinates_are_the_canonical_ones_and_local_ones_begin_at_the_parent(size, seed):
    pos, radius = chain(size, seed)
    torch.testing.assert_close(around_each(LocalFrameBuilder('absolute'), pos, radius).to_local(pos), pos)
    expected = gather_slots(pos, find_parents(pos, radius))
    expected[:, 0] = 0  # the first atom has no parent
    torch.testing.assert_close(around_each(LocalFrameBuilder('local'), pos, radius).origin, expected)


def spanned(around):
    """Where neighbours alone give the axes [B, Q]: one off the line of the first."""
    direction = torch.nn.functional.normalize(around.offset, dim=-1)
    sine = torch.linalg.cross(direction, direction[..., :1, :].expand_as(direction)).norm(dim=-1)
    return ((sine > MIN_SINE) & around.valid).any(-1)


@given(size=st.integers(4, 12), seed=st.integers(0, 10**6), shift=st.tuples(*[st.floats(-5, 5)] * 3))
def test_local_systems_turn_with_the_molecule(size, seed, shift):
    pos, radius = chain(size, seed)
    turn, shift = random_rotation(seed), torch.tensor(shift, dtype=pos.dtype)
    moved = pos @ turn.T + shift
    a, b = (around_each(LocalFrameBuilder('local'), p, radius) for p in (pos, moved))
    free = spanned(a)
    assert not free[:, :3].any()  # two atoms are a line; the canonical axes stand in
    torch.testing.assert_close(b.origin[:, 1:], a.origin[:, 1:] @ turn.T + shift)
    torch.testing.assert_close(b.axes[free], turn @ a.axes[free])
    torch.testing.assert_close(b.to_local(moved)[free], a.to_local(pos)[free])
    torch.testing.assert_close(b.offset[free], a.offset[free])


def test_local_coordinates_of_real_molecules_do_not_see_the_pose(qm9):
    off, later = [], []
    for k, data in enumerate(qm9[1]):
        pos, radius = tensors_of(data)
        moved = pos @ random_rotation(k).T + 3
        a, b = (around_each(LocalFrameBuilder('local'), p, radius) for p in (pos, moved))
        off.append((a.to_local(pos) - b.to_local(moved)).norm(dim=-1)[spanned(a)])
        later.append(spanned(a)[0, 3:])
    assert torch.cat(later).float().mean() > 0.9  # from the fourth atom on, but for lines such as C-C#N
    # Neighbours that are equally far to the last digit may change places.
    assert (torch.cat(off) < 1e-4).float().mean() > 0.99


@given(size=st.integers(1, 10), seed=st.integers(0, 10**6), data=st.data())
@pytest.mark.parametrize('target', TARGETS)
def test_an_atom_is_placed_by_the_atoms_before_it(target, size, seed, data):
    pos, radius = chain(size, seed)
    builder, parent = LocalFrameBuilder(target), find_parents(pos, radius)
    t = data.draw(st.integers(0, size - 1))
    spoilt_pos, spoilt_radius = pos.clone(), radius.clone()
    spoilt_pos[:, t:], spoilt_radius[:, t:] = 0.1, 2.0
    if t > 0:  # the slot of its parent; the first has none
        assert torch.equal(find_parents(spoilt_pos, spoilt_radius)[:, :t], parent[:, :t])
    query, count = parent[:, t:t + 1], torch.tensor([[t]])
    a, b = builder(pos, radius, query, count), builder(spoilt_pos, spoilt_radius, query, count)
    assert torch.equal(a.valid, b.valid) and int(a.valid.sum()) == max(t - 1, 0)
    for x, y in ((a.origin, b.origin), (a.axes, b.axes), (a.slots[a.valid], b.slots[b.valid]),
                 (a.offset[a.valid], b.offset[b.valid])):
        assert torch.equal(x, y)


@given(size=st.integers(1, 8), extra=st.integers(0, 8), seed=st.integers(0, 10**6))
@pytest.mark.parametrize('target', TARGETS)
def test_empty_slots_change_nothing(target, size, extra, seed):
    pos, radius = chain(size, seed)
    a = around_each(LocalFrameBuilder(target), pos, radius)
    wide, wide_radius = (torch.cat([x, x.new_zeros(1, extra, *x.shape[2:])], 1) for x in (pos, radius))
    b = around_each(LocalFrameBuilder(target), wide, wide_radius)
    torch.testing.assert_close(b.axes[:, :size], a.axes)
    torch.testing.assert_close(b.to_local(wide)[:, :size], a.to_local(pos))


@pytest.mark.parametrize('name', ['CH4', 'CF4', 'SF6', 'C6H6', 'cubane', 'C60', 'ethane', 'adamantane'])
def test_ties_between_symmetric_atoms_are_broken_by_the_sequence(name):
    pos, radius = (x.float() for x in tensors_of(degenerate_molecules()[name]))
    n = pos.size(1)
    a = around_each(LocalFrameBuilder('local', 12), pos, radius)
    for extra in (1, 7, 40):
        wide, wide_radius = (torch.cat([x, x.new_zeros(1, extra, *x.shape[2:])], 1) for x in (pos, radius))
        b = around_each(LocalFrameBuilder('local', 12), wide, wide_radius)
        torch.testing.assert_close(b.axes[:, :n], a.axes, atol=1e-5, rtol=0)
        for t in range(n):
            same = slice(0, int(a.valid[0, t].sum()))
            assert torch.equal(a.slots[0, t, same], b.slots[0, t, same])


@pytest.mark.parametrize('name', sorted(degenerate_molecules()))
@pytest.mark.parametrize('target', TARGETS)
def test_degenerate_molecules_have_finite_systems(target, name):
    pos, radius = tensors_of(degenerate_molecules()[name])
    around = around_each(LocalFrameBuilder(target), pos, radius)
    assert all(bool(x.isfinite().all()) for x in (around.origin, around.axes, around.offset))
    torch.testing.assert_close(around.axes.mT @ around.axes, torch.eye(3, dtype=pos.dtype).expand_as(around.axes))
    torch.testing.assert_close(around.to_global(around.to_local(pos)), pos)


@pytest.mark.parametrize('target', TARGETS)
def test_coincident_atoms_have_finite_systems(target):
    pos = torch.ones(1, 5, 3)
    pos[:, 4] = 2
    around = around_each(LocalFrameBuilder(target), pos, torch.full((1, 5), 0.7))
    torch.testing.assert_close(around.axes.mT @ around.axes, torch.eye(3).expand_as(around.axes))
    torch.testing.assert_close(around.to_global(around.to_local(pos)), pos)


def test_the_first_atom_is_placed_in_the_canonical_frame():
    pos, radius = chain(3, 0)
    for target in TARGETS:
        around = around_each(LocalFrameBuilder(target), pos + 2, radius)
        assert torch.equal(around.origin[:, 0], torch.zeros(1, 3, dtype=pos.dtype))
        assert torch.equal(around.axes[:, 0], torch.eye(3, dtype=pos.dtype)[None])
        assert not around.valid[:, 0].any()


def test_a_line_takes_its_plane_from_the_canonical_axes():
    pos = torch.tensor([[[0.0, 0, 0], [1.2, 0, 0], [2.4, 0, 0], [3.6, 0, 0]]], dtype=torch.float64)
    around = around_each(LocalFrameBuilder('local'), pos, torch.full((1, 4), 0.7, dtype=torch.float64))
    local = around.to_local(pos)
    torch.testing.assert_close(local[0, 2:], torch.tensor([[-1.2, 0, 0]] * 2, dtype=torch.float64))  # away from it


def test_the_first_axis_points_to_the_bonded_atom_that_came_first():
    # 0 - 1 - 2 in a chain, 3 bonded to 1: the axes at 1 are along 0, with 2 in the plane.
    pos = torch.tensor([[[1.4, 0, 0], [0, 0, 0], [0, 1.4, 0], [0, 0, 1.4]]], dtype=torch.float64)
    around = around_each(LocalFrameBuilder('local'), pos, torch.full((1, 4), 0.7, dtype=torch.float64))
    torch.testing.assert_close(around.axes[0, 3], torch.eye(3, dtype=torch.float64))
    assert around.slots[0, 3, :2].tolist() == [0, 2]


@given(length=st.integers(1, 6), seed=st.integers(0, 1000))
def test_local_axes_skip_what_does_not_span(length, seed):
    g = torch.Generator().manual_seed(seed)
    offset = torch.randn(3, length, 3, generator=g, dtype=torch.float64)
    valid = torch.rand(3, length, generator=g) < 0.5
    axes = local_axes(offset, valid)
    torch.testing.assert_close(axes.mT @ axes, torch.eye(3, dtype=axes.dtype).expand_as(axes))
    spoilt = torch.where(valid.unsqueeze(-1), offset, 7.0)
    torch.testing.assert_close(local_axes(spoilt, valid), axes)
    stretched = offset * (1 + torch.rand(3, length, 1, generator=g))
    torch.testing.assert_close(local_axes(stretched, valid), axes)


def test_parents_are_bonded_atoms_that_came_before(qm9):
    for data in qm9[1]:
        pos, radius = tensors_of(data)
        parent = find_parents(pos, radius)[0]
        assert parent[0] == 0
        bonds = set(map(tuple, data.edge_index.T.tolist()))
        for t in range(1, len(parent)):
            assert parent[t] < t
            if any((t, j) in bonds for j in range(t)):
                assert (t, int(parent[t])) in bonds


def test_errors():
    with pytest.raises(ValueError, match=r"'coordinate_target' must be 'absolute' or 'local' \(got 'pca'\)"):
        LocalFrameBuilder('pca')


def test_which_targets_have_parents():
    assert [LocalFrameBuilder(target).has_parent for target in TARGETS] == [False, True]


def test_absolute_coordinates_need_no_neighbours():
    pos, radius = torch.randn(2, 5, 3, dtype=torch.float64), torch.full((2, 5), 0.7, dtype=torch.float64)
    parent = torch.zeros(2, 5, dtype=torch.long)
    count = torch.arange(5).expand(2, 5)
    none, some = (LocalFrameBuilder('absolute', k)(pos, radius, parent, count) for k in (0, 3))
    assert none.slots.shape == none.valid.shape == (2, 5, 0) and none.offset.shape == (2, 5, 0, 3)
    assert torch.equal(none.origin, some.origin) and torch.equal(none.axes, some.axes)
    assert none.slots.dtype == some.slots.dtype and none.valid.dtype == some.valid.dtype
    assert torch.equal(none.to_local(pos), pos) and torch.equal(none.to_global(pos), pos)
