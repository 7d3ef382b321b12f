r"""Laws of the coordinate system in which an atom is placed."""
import pytest
import torch

from torch_geometric_inertial.nn.bond_frame import bond_axes, bond_frames, cartesian_axes
from torch_geometric_inertial.testing import random_rotation

CHAIN = torch.zeros(1, 6, 6).long()
for _i, _j, _order in [(0, 1, 1), (1, 2, 2), (1, 3, 1), (3, 4, 1), (4, 0, 1), (3, 5, 1)]:  # a ring of 0, 1, 3, 4
    CHAIN[0, _i, _j] = CHAIN[0, _j, _i] = _order
ROW, SLOT, PARENT = torch.zeros(5).long(), torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 1, 1, 3, 3])


@pytest.fixture
def pos():
    return torch.randn(1, 6, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_what_stands_around_comes_in_the_order_that_is_told(pos):
    frame = bond_frames(pos, CHAIN, ROW, SLOT, PARENT, 3)
    near = (pos[0, 0] - pos[0, 3]).norm() < (pos[0, 2] - pos[0, 3]).norm()
    assert frame.slots[1, :2].tolist() == [1, 0]  # atom 2 hangs at 1, which is bonded to 0
    assert frame.slots[3].tolist() == [3, 0, 1, 2]  # atom 4 closes a ring to 0; its parent 3 is bonded to 1
    assert frame.slots[4].tolist() == [3, 1, 4, 0 if near else 2]  # atom 5: 3 is bonded to 1 and 4; then the nearest
    assert frame.valid.sum(1).tolist() == [1, 2, 3, 4, 4]  # later atoms are not there


@pytest.mark.parametrize('dtype, atol', [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_it_turns_with_the_molecule(pos, dtype, atol):
    turn = random_rotation(torch.Generator().manual_seed(1)).to(dtype)
    a = bond_frames(pos.to(dtype), CHAIN, ROW, SLOT, PARENT, 3)
    b = bond_frames(pos.to(dtype) @ turn.T + 2.0, CHAIN, ROW, SLOT, PARENT, 3)
    full = a.valid[:, 2]  # two directions span the axes; before that they are those of the coordinates
    torch.testing.assert_close(b.offset[full], a.offset[full], atol=atol, rtol=0)
    torch.testing.assert_close(b.axes[full], turn @ a.axes[full], atol=atol, rtol=0)
    for frame in (a, b):
        torch.testing.assert_close(frame.axes.mT @ frame.axes, torch.eye(3, dtype=dtype).expand(5, 3, 3), atol=atol,
                                   rtol=0)
        assert (torch.linalg.det(frame.axes) > 0).all()
        there = torch.randn(5, 3, dtype=dtype)
        torch.testing.assert_close(frame.to_local(frame.to_global(there)), there, atol=10 * atol, rtol=0)


def test_equally_near_atoms_come_in_the_order_of_the_sequence_whatever_the_rounding():
    r"""Symmetric molecules have many of them: which comes first must not hang on the last bit of a distance."""
    angle = torch.arange(5, dtype=torch.float64) * (2 * torch.pi / 5) + 0.3
    ring = torch.stack([angle.cos(), angle.sin(), 0.2 * (-1.0) ** torch.arange(5)], dim=1)
    pos = torch.cat([torch.zeros(1, 3, dtype=torch.float64), 1.7 * ring, torch.ones(1, 3, dtype=torch.float64)])[None]
    order = torch.zeros(1, 7, 7).long()
    order[0, 6, 0] = order[0, 0, 6] = 1
    for noise in range(20):
        moved = pos + 1e-6 * torch.randn(pos.shape, generator=torch.Generator().manual_seed(noise))
        for dtype in (torch.float32, torch.float64):
            one = torch.zeros(1).long()
            frame = bond_frames(moved.to(dtype), order, one, torch.tensor([6]), one, 4)
            assert frame.slots.tolist() == [[0, 1, 2, 3, 4]]


def test_atoms_in_a_line_span_no_plane():
    line = torch.tensor([[0.0, 0.0, 1.2], [0.0, 0.0, -1.2], [0.01, 0.0, 2.4]])
    axes = bond_axes(line, torch.ones(3).bool())
    torch.testing.assert_close(axes[:, 0], torch.tensor([0.0, 0.0, 1.0]))
    torch.testing.assert_close(axes[:, 1], torch.tensor([1.0, 0.0, 0.0]))  # of the coordinates, then
    off = bond_axes(torch.cat([line, torch.tensor([[0.0, 2.0, 1.0]])]), torch.ones(4).bool())
    torch.testing.assert_close(off[:, 1], torch.tensor([0.0, 1.0, 0.0]))
    assert cartesian_axes(line, torch.ones(3).bool()).equal(torch.eye(3))
