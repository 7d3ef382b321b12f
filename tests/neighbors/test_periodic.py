import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.neighbors.neighbor_list import neighbor_list
from torch_geometric_inertial.neighbors.periodic import periodic_neighbor_list, plane_spacings, translations


def random_system(sizes, seed):
    g = torch.Generator().manual_seed(seed)
    ptr = torch.tensor([0, *sizes]).cumsum(0)
    cell = 2.5 * torch.eye(3, dtype=torch.float64) + 0.8 * torch.randn(len(sizes), 3, 3, generator=g,
                                                                        dtype=torch.float64)
    cell[torch.linalg.svdvals(cell).amin(1) < 0.8] = 2 * torch.eye(3, dtype=torch.float64)
    pbc = torch.rand(len(sizes), 3, generator=g) < 0.6
    pos = 4 * torch.randn(int(ptr[-1]), 3, generator=g, dtype=torch.float64)  # in and out of the cell
    return pos, ptr, cell, pbc


def by_loops(pos, ptr, cell, pbc, cutoff, reach=14):
    """Every image of every point within `reach` cells, one system after the other."""
    found = set()
    for b in range(len(cell)):
        axes = [range(-reach, reach + 1) if p else (0, ) for p in pbc[b]]
        shift = torch.tensor(list(itertools.product(*axes)))
        atoms = range(int(ptr[b]), int(ptr[b + 1]))
        for i, j in itertools.product(atoms, atoms):
            near = (pos[j] + shift.double() @ cell[b] - pos[i]).norm(dim=1) <= cutoff
            found |= {(i, j, *T) for T in shift[near].tolist()}
    return found


@settings(deadline=None, max_examples=20)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=3), seed=st.integers(0, 10**6),
       cutoff=st.floats(0.3, 3.0))
def test_they_are_the_near_images(sizes, seed, cutoff):
    pos, ptr, cell, pbc = random_system(sizes, seed)
    row, col, shift = periodic_neighbor_list(pos, ptr, cell, pbc, cutoff)
    edges = list(zip(row.tolist(), col.tolist(), *shift.T.tolist(), strict=True))
    assert len(edges) == len(set(edges))
    assert set(edges) == by_loops(pos, ptr, cell, pbc, cutoff, reach=20)
    assert (row.diff() >= 0).all() and ((row * len(pos) + col).diff() >= 0).all()


def test_they_are_those_of_ase():
    neighborlist = pytest.importorskip('ase.neighborlist')
    ase = pytest.importorskip('ase')
    for seed in range(5):
        pos, ptr, cell, pbc = random_system([6], seed)
        atoms = ase.Atoms('C6', pos.numpy(), cell=cell[0].numpy(), pbc=pbc[0].numpy())
        theirs = set(zip(*(x.tolist() for x in neighborlist.neighbor_list('ij', atoms, 3.7)),
                         map(tuple, neighborlist.neighbor_list('S', atoms, 3.7).tolist()), strict=True))
        row, col, shift = periodic_neighbor_list(pos, ptr, cell, pbc, 3.7)
        other = (row != col) | shift.any(1)
        ours = set(zip(row[other].tolist(), col[other].tolist(), map(tuple, shift[other].tolist()), strict=True))
        assert ours == theirs and len(ours) == int(other.sum())


def test_without_a_period_they_are_the_neighbor_list():
    pos, ptr, cell, _ = random_system([5, 3], 0)
    row, col, shift = periodic_neighbor_list(pos, ptr, 0 * cell, torch.zeros(2, 3, dtype=torch.bool), 4.0)
    assert not shift.any()
    assert all(torch.equal(a, b) for a, b in zip((row, col), neighbor_list(pos, ptr, 4.0), strict=True))


def test_a_vector_that_is_no_period_may_be_zero():
    pos, ptr, cell, _ = random_system([4], 1)
    pbc = torch.tensor([[True, False, True]])
    some = periodic_neighbor_list(pos, ptr, cell, pbc, 3.0)
    cell[0, 1] = 0
    for a, b in zip(periodic_neighbor_list(pos, ptr, cell, pbc, 3.0), some, strict=True):
        assert torch.equal(a, b)
    planes = plane_spacings(cell, pbc)[0]
    assert planes[1] == torch.inf
    sine = torch.linalg.cross(cell[0, 0], cell[0, 2]).norm()
    torch.testing.assert_close(planes[[0, 2]], sine / cell[0, [2, 0]].norm(dim=1))


def test_translations_are_differentiable():
    cell = torch.randn(2, 3, 3, dtype=torch.float64, requires_grad=True)
    shift, index = torch.tensor([[1, 0, -2], [0, 0, 0], [3, 1, 1]]), torch.tensor([0, 1, 1])
    assert torch.autograd.gradcheck(lambda c: translations(shift, c, index), [cell])


@pytest.mark.parametrize('rows', [
    [[3.0, 0, 0], [0, 0, 0], [0, 0, 3]], [[3.0, 0, 0], [3, 0, 0.01], [0, 3, 0]], [[0.01, 0, 0], [0, 3, 0], [0, 0, 3]]])
def test_singular_cells(rows):
    cell = torch.stack([3 * torch.eye(3), torch.tensor(rows)])
    with pytest.raises(ValueError, match=r"'cell' must have independent lattice vectors .* of at least 0.1 Å \(got \["):
        periodic_neighbor_list(torch.zeros(2, 3), torch.tensor([0, 1, 2]), cell, torch.ones(2, 3, dtype=bool), 2.0)
