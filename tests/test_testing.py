import pytest
import torch

from torch_geometric_inertial.testing import (
    assert_equivariant,
    assert_invariant,
    degenerate_molecules,
    random_motion,
    random_rotation,
)

MOLECULES = degenerate_molecules()
FORMULAS = {'H2O': 'HHO', 'C60': 'C' * 60, 'adamantane': 'C' * 10 + 'H' * 16, 'neopentane': 'C' * 5 + 'H' * 12,
            'cyclobutane': 'CCCCHHHHHHHH', 'ferrocene D5d': 'C' * 10 + 'Fe' + 'H' * 10, 'SF6': 'FFFFFFS'}
#: Which of the two relative moment gaps vanish.
TOPS = {'CH4': (True, True), 'CF4': (True, True), 'SF6': (True, True), 'cubane': (True, True), 'C60': (True, True),
        'adamantane': (True, True), 'neopentane': (True, True), 'C6H6': (True, False), 'NH3': (True, False),
        'cyclobutane': (True, False), 'allene': (False, True), 'ethane': (False, True), 'propyne': (False, True),
        'ferrocene D5d': (False, True), 'furan': (False, False), 'H2O': (False, False)}


def test_the_named_molecules_are_there():
    names = {'H', 'H2', 'H2O', 'CO2', 'C2H2', 'HCN', 'NH3', 'CH4', 'CF4', 'SF6', 'C6H6', 'cubane', 'adamantane', 'C60',
             'allene', 'ethane', 'propyne', 'furan', 'dimethyl ether', 'neopentane', 'cyclobutane', 'ferrocene D5d',
             'CHFClBr R', 'CHFClBr S'}
    assert names <= set(MOLECULES)


@pytest.mark.parametrize('name', FORMULAS)
def test_formulas(name):
    from torch_geometric_inertial.elements import SYMBOLS

    assert ''.join(sorted(SYMBOLS[k] for k in MOLECULES[name].z.tolist())) == FORMULAS[name]


@pytest.mark.parametrize('name', MOLECULES)
def test_no_two_atoms_are_too_near(name):
    pos = MOLECULES[name].pos
    assert len(pos) == 1 or float(torch.pdist(pos).min()) > 0.7


@pytest.mark.parametrize('name', TOPS)
def test_symmetry_shows_in_the_moments(name):
    pos = MOLECULES[name].pos
    extent = torch.linalg.svdvals(pos - pos.mean(0)).square()
    equal = [float(extent[k] - extent[k + 1]) < 1e-6 * float(extent[0]) for k in (0, 1)]
    # the largest extent belongs to the smallest moment
    assert tuple(equal) == TOPS[name]


def test_hands_are_mirror_images():
    right, left = MOLECULES['CHFClBr R'].pos, MOLECULES['CHFClBr S'].pos
    assert torch.linalg.det(right[1:4]) * torch.linalg.det(left[1:4]) < 0


def test_rotations_are_rotations_and_differ():
    a, b = random_rotation(0), random_rotation(1)
    torch.testing.assert_close(a @ a.T, torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(torch.linalg.det(a), torch.tensor(1.0, dtype=torch.float64))
    assert not torch.allclose(a, b) and torch.equal(a, random_rotation(0))


def test_a_motion_keeps_the_molecule():
    data = MOLECULES['furan'].clone()
    data.edge_index = torch.tensor([[0, 1], [1, 3]])
    moved = random_motion(data, 3)
    bond = (data.pos[data.edge_index[0]] - data.pos[data.edge_index[1]]).norm(dim=1)
    torch.testing.assert_close((moved.pos[moved.edge_index[0]] - moved.pos[moved.edge_index[1]]).norm(dim=1), bond)
    torch.testing.assert_close(torch.pdist(moved.pos).sort().values, torch.pdist(data.pos).sort().values)


def test_assert_invariant_finds_what_is_not():
    data = MOLECULES['CHFClBr R']
    with pytest.raises(AssertionError, match='elements differ under motion'):
        assert_invariant(lambda d: d, data)
    with pytest.raises(AssertionError, match=r'coordinates differ by .* Å > 0.001 Å under motion 0'):
        assert_invariant(lambda d: d, MOLECULES['H2'])


def test_a_motion_turns_the_declared_vectors_and_shifts_positions_alone():
    data = MOLECULES['furan'].clone()
    data.forces, data.dipole, data.own = 2 * data.pos, data.pos[:1].clone(), 3 * data.pos
    data.formal_charge = data.z.clone()
    moved = random_motion(data, 3, shift=0.0, vectors=('forces', 'dipole', 'own'))
    torch.testing.assert_close(moved.forces, 2 * moved.pos)
    torch.testing.assert_close(moved.own, 3 * moved.pos)
    torch.testing.assert_close(moved.dipole.norm(), data.dipole.norm())
    assert not torch.allclose(moved.dipole, data.dipole)
    assert torch.equal(moved.formal_charge, moved.z)
    far = random_motion(data, 3, shift=5.0, vectors=('forces', ))
    torch.testing.assert_close(far.forces, moved.forces)


@pytest.mark.parametrize('name, got', [('forces', 'None'), ('z', r'\[9\]')])
def test_vectors_that_are_none(name, got):
    with pytest.raises(ValueError, match=f"'vectors' must name tensors with 3 numbers .* \\(got '{name}': {got}\\)"):
        random_motion(MOLECULES['furan'], 0, vectors=(name, ))


def test_assert_equivariant_passes_vectors_and_finds_what_is_not():
    def pull(d):
        return d.pos.mean(0) - d.pos

    data = MOLECULES['CHFClBr R'].clone()
    assert_equivariant(pull, data)
    data.velocity = data.pos.clone()
    assert_equivariant(lambda d: pull(d) + d.velocity, data, vectors=('velocity', ))
    with pytest.raises(AssertionError, match=r'vectors differ by .* > 1e-06 under motion 2'):
        assert_equivariant(lambda d: pull(d) + d.velocity, data, seed=2)  # velocities that stay
    with pytest.raises(AssertionError, match='vectors differ'):
        assert_equivariant(lambda d: d.pos, data)  # shifts
    with pytest.raises(AssertionError, match='vectors differ by nan'):
        assert_equivariant(lambda d: pull(d) / 0 * 0, data)
    with pytest.raises(ValueError, match=r"'function' must give vectors \[5, …, 3\] \(got \[5\]\)"):
        assert_equivariant(lambda d: d.pos.norm(dim=1), data)
