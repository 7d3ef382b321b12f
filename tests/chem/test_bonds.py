import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torch_geometric_inertial.chem.bonds import SLACK, distance_bonds
from torch_geometric_inertial.elements import COVALENT_RADII
from torch_geometric_inertial.testing import degenerate_molecules

MOLECULES = degenerate_molecules()
COUNTS = {'H': 0, 'H2': 1, 'H2O': 2, 'CO2': 2, 'C2H2': 3, 'CH4': 4, 'SF6': 6, 'C6H6': 12, 'cubane': 20,
          'adamantane': 28, 'C60': 90, 'allene': 6, 'ethane': 7, 'neopentane': 16, 'cyclobutane': 12, 'furan': 9,
          'trimethylamine': 12}


def bonds_of(*molecules):
    ptr = torch.tensor([0, *(len(m.z) for m in molecules)]).cumsum(0)
    return distance_bonds(torch.cat([m.pos for m in molecules]), torch.cat([m.z for m in molecules]), ptr)


@pytest.mark.parametrize('name', COUNTS)
def test_named_molecules_have_their_bonds(name):
    assert bonds_of(MOLECULES[name]).size(1) == COUNTS[name]


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 15))
def test_every_pair_below_the_radii_and_no_other(seed, size):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(size, 3, generator=generator, dtype=torch.float64) * 2
    pos += torch.arange(size)[:, None] * torch.tensor([1.0, 0, 0])  # thin out
    z = torch.randint(1, 18, (size,), generator=generator)
    gap = torch.cdist(pos, pos)
    if size > 1 and float((gap + 9 * torch.eye(size)).min()) < 0.4:
        return
    limit = COVALENT_RADII[z][:, None] + COVALENT_RADII[z][None] + SLACK
    expected = (gap < limit).triu(1).nonzero().T
    assert torch.equal(distance_bonds(pos, z, torch.tensor([0, size])), expected)


def test_a_batch_is_its_molecules_and_no_bond_leaves_one(monkeypatch):
    molecules = [MOLECULES[name] for name in ('H', 'CH4', 'H2O', 'C6H6', 'H')]
    parts, first = [], 0
    for m in molecules:
        parts.append(bonds_of(m) + first)
        first += len(m.z)
    assert torch.equal(bonds_of(*molecules), torch.cat(parts, 1))
    monkeypatch.setattr('torch_geometric_inertial.chem.pairs._PAIRS_AT_ONCE', 7)
    assert torch.equal(bonds_of(*molecules), torch.cat(parts, 1))


def test_stored_bonds_of_real_molecules_are_found(shared_data):
    import numpy as np

    with np.load(shared_data / 'qm9' / 'qm9_geom.npz') as file:
        part = slice(60_000, 60_301)
        ptr, bond_ptr = (torch.from_numpy(file[key][part].astype(np.int64)) for key in ('ptr', 'bond_ptr'))
        a, b, c, d = int(ptr[0]), int(ptr[-1]), int(bond_ptr[0]), int(bond_ptr[-1])
        pos, z = torch.from_numpy(file['pos_1e5'][a:b] * 1e-5), torch.from_numpy(file['z'][a:b]).long()
        stored = torch.from_numpy(np.stack([file['bond_u'][c:d], file['bond_v'][c:d]]).astype(np.int64))
    stored = stored + torch.repeat_interleave(ptr[:-1] - a, bond_ptr.diff())
    found = set(map(tuple, distance_bonds(pos, z, ptr - a).T.tolist()))
    assert len(found ^ set(map(tuple, stored.T.tolist()))) <= 2


@pytest.mark.parametrize('change, message', [
    (lambda m: m.pos.__setitem__(2, m.pos[1]),
     r'two atoms must be at least 0.4 Å apart \(got 0 Å between atom 1, H, and atom 2, H\)'),
    (lambda m: m.pos.__setitem__((0, 0), float('nan')), "'pos' must be finite .*at atom 0"),
    (lambda m: m.z.__setitem__(1, 0), r"'z' must lie between 1 and 118 \(got 0 at atom 1\)"),
    (lambda m: m.z.__setitem__(1, 119), r"'z' must lie between 1 and 118 \(got 119 at atom 1\)"),
    (lambda m: setattr(m, 'z', m.z.double()), r"'z' must hold whole numbers \(got torch.float64\)"),
])
def test_bad_input_is_named(change, message):
    molecule = MOLECULES['CH4'].clone()
    change(molecule)
    with pytest.raises(ValueError, match=message):
        bonds_of(MOLECULES['H2O'], molecule) if 'apart' in message else bonds_of(molecule)
