import math

import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import from_smiles, heavy_bonds, to_mol, with_bonds
from torch_geometric_inertial.testing import random_motion

Chem = pytest.importorskip('rdkit.Chem')


def molecule(symbols, pos, **fields):
    numbers = {'H': 1, 'C': 6, 'N': 7, 'O': 8, 'Na': 11, 'Cl': 17, 'Fe': 26}
    return Data(z=torch.tensor([numbers[s] for s in symbols.split()]), pos=torch.tensor(pos, dtype=torch.float64),
                **fields)


def heavy(data):
    keep = data.z > 1
    return Data(z=data.z[keep], pos=data.pos[keep])


def smiles(data):
    return Chem.MolToSmiles(Chem.RemoveAllHs(to_mol(data)), isomericSmiles=False)


def in_plane(steps):
    """A chain in a plane: (length, turn in degrees) from each atom to the next."""
    x, y, angle, out = 0.0, 0.0, 0.0, [[0.0, 0.0, 0.0]]
    for length, turn in steps:
        angle += math.radians(turn)
        x, y = x + length * math.cos(angle), y + length * math.sin(angle)
        out.append([x, y, 0.0])
    return out


NAMED = {
    'benzene': 'c1ccccc1', 'pyridine': 'c1ccncc1', 'imidazole': 'c1c[nH]cn1', '4H-1,2,4-triazole': 'c1nnc[nH]1',
    'nitromethane': 'C[N+](=O)[O-]', 'hydrogen cyanide': 'C#N', 'acetylene': 'C#C', 'naphthalene': 'c1ccc2ccccc2c1',
    'furan': 'c1ccoc1', 'thiophene': 'c1ccsc1', 'dimethyl sulfone': 'CS(C)(=O)=O', 'sulfoxide': 'CS(C)=O',
    'amide': 'CNC(C)=O', 'phosphate': 'COP(=O)(OC)OC', 'quaternary nitrogen': 'C[N+](C)(C)C', 'methane': 'C',
    'water': 'O', 'halogens': 'BrCCI', 'boronic acid': 'OB(O)c1ccccc1', 'tetramethylsilane': 'C[Si](C)(C)C',
    'caffeine': 'Cn1c(=O)c2c(ncn2C)n(C)c1=O', 'pyridone': 'O=c1cc[nH]cc1', 'indole': 'c1ccc2[nH]ccc2c1',
    'hexatriene': 'C=CC=CC=C', 'cage': 'C1CC2CCC1CC2',
}


@pytest.mark.parametrize('name', NAMED)
def test_bonds_with_and_without_the_hydrogens(name):
    whole = from_smiles(NAMED[name])
    true = Chem.CanonSmiles(NAMED[name])
    assert smiles(with_bonds(Data(z=whole.z, pos=whole.pos))) == true
    assert smiles(with_bonds(heavy(whole), hydrogens='missing')) == true
    assert smiles(with_bonds(Data(z=whole.z, pos=whole.pos), hydrogens='missing')) == true


CO2 = molecule('C O O', [[0, 0, 0], [1.16, 0, 0], [-1.16, 0, 0]])
#: B3LYP-like lengths: C–N 1.51, C–C 1.56, C–O 1.25 Å.
GLYCINE = molecule('N C C O O', [[-1.39, 1.06, 0], [-0.78, -0.32, 0], [0.78, -0.32, 0], [1.36, 0.79, 0],
                                 [1.36, -1.43, 0]])


def test_carbon_dioxide():
    assert smiles(with_bonds(CO2, hydrogens='missing')) == smiles(with_bonds(CO2)) == 'O=C=O'


def test_zwitterion_of_glycine():
    found = with_bonds(GLYCINE, hydrogens='missing')
    assert smiles(found) == '[NH3+]CC(=O)[O-]'
    assert found.formal_charge.sum() == 0


def test_azide():
    pos = in_plane([(1.468, 0), (1.216, 63.2), (1.113, -5)])
    assert smiles(with_bonds(molecule('C N N N', pos), hydrogens='missing')) == 'CN=[N+]=[N-]'


def test_total_charge_decides_what_lengths_leave_open():
    methylamine = molecule('C N', [[0, 0, 0], [1.48, 0, 0]])
    assert smiles(with_bonds(methylamine, hydrogens='missing')) == 'CN'
    assert smiles(with_bonds(methylamine, hydrogens='missing', charge=0)) == 'CN'
    assert smiles(with_bonds(methylamine, hydrogens='missing', charge=1)) == 'C[NH3+]'


def test_given_formal_charges_are_kept():
    methylamine = molecule('C N', [[0, 0, 0], [1.48, 0, 0]], formal_charge=torch.tensor([0, 1]))
    found = with_bonds(methylamine, hydrogens='missing')
    assert smiles(found) == 'C[NH3+]' and found.formal_charge.tolist() == [0, 1]


def test_hydrogens_that_are_there_are_the_least():
    whole = from_smiles('Oc1ccncc1')
    some = (whole.z > 1) | (torch.arange(whole.z.numel()) == int((whole.z == 1).nonzero()[-1]))
    found = with_bonds(Data(z=whole.z[some], pos=whole.pos[some]), hydrogens='missing')
    assert found.edge_index.size(1) == 2 * (7 + 1)
    assert smiles(found) == Chem.CanonSmiles('Oc1ccncc1')


def test_isolated_atoms():
    salt = molecule('Na Cl O C H', [[0, 0, 0], [4, 0, 0], [8, 0, 0], [12, 0, 0], [16, 0, 0]])
    found = with_bonds(salt, hydrogens='missing', charge=0)
    assert found.edge_index.shape == (2, 0) and found.edge_attr.shape == (0, )
    assert found.formal_charge.tolist() == [1, -1, 0, 0, 0]
    hydrogen = molecule('H H', [[0, 0, 0], [0.74, 0, 0]])
    assert with_bonds(hydrogen).edge_index.tolist() == [[0, 1], [1, 0]]


def test_fields_and_that_the_data_stay():
    whole = from_smiles('c1ccncc1')
    data = Data(z=whole.z, pos=whole.pos, title='pyridine')
    found = with_bonds(data)
    assert 'edge_index' not in data and found.title == 'pyridine'
    assert found.edge_attr.dtype == found.formal_charge.dtype == torch.int64
    assert found.num_radical_electrons.tolist() == [0] * 11
    order = {(u, v): k for u, v, k in zip(*found.edge_index.tolist(), found.edge_attr.tolist(), strict=True)}
    assert all(order[v, u] == k for (u, v), k in order.items()) and list(order) == sorted(order)
    valence = torch.zeros(11, dtype=torch.long).index_add_(0, found.edge_index[0], found.edge_attr)
    assert valence.tolist() == [{6: 4, 7: 3, 1: 1}[int(z)] for z in whole.z]  # a Kekulé form


def test_data_with_bonds_come_back():
    whole = from_smiles('CO')
    assert with_bonds(whole, hydrogens='missing') is whole


@pytest.mark.parametrize('text', ['Cn1cnc2c1c(=O)n(C)c(=O)n2C', 'OC(=O)CN1C=CN=C1'])
def test_pose_and_numbering_do_not_matter(text):
    data = heavy(from_smiles(text))
    true = smiles(with_bonds(data, hydrogens='missing'))
    for seed in range(4):
        moved = random_motion(data, seed)
        shuffle = torch.randperm(data.z.numel(), generator=torch.Generator().manual_seed(seed))
        again = with_bonds(Data(z=moved.z[shuffle], pos=moved.pos[shuffle]), hydrogens='missing')
        assert smiles(again) == true


def test_the_search_finds_the_least_of_all_assignments():
    """Against every choice of states and orders, for a molecule with 1,000s of them."""
    import itertools

    from torch_geometric_inertial.chem.bond_statistics import bond_statistics, states_of, twist_class
    from torch_geometric_inertial.chem.skeleton import skeleton_of

    data = heavy(from_smiles('CC(=O)NC'))
    skeleton, known = skeleton_of(data.z.long(), data.pos.double()), bond_statistics()
    candidates = [[s for s in states_of(z, degree) if s.charge == 0]
                  for z, degree in zip(skeleton.z, skeleton.degree, strict=True)]
    least = math.inf
    for orders in itertools.product((1, 2, 3), repeat=len(skeleton.bonds)):
        pi = [0] * len(candidates)
        for (u, v, _, _), k in zip(skeleton.bonds, orders, strict=True):
            pi[u] += k - 1
            pi[v] += k - 1
        for states in itertools.product(*([s for s in c if s.pi == pi[i]] for i, c in enumerate(candidates))):
            cost = sum(known.state(s) for s in states)
            for s, (value, ring) in zip(states, skeleton.shape, strict=True):
                shape = None if value is None else known.shape(s, ring)
                cost += 0.0 if shape is None else shape.cost(value)
            for (u, v, length, ring), twist, k in zip(skeleton.bonds, skeleton.twist, orders, strict=True):
                cost += known.length(states[u], states[v], k, ring).cost(length)
                cost += 0.0 if twist is None else known.twist(states[u], states[v], k, ring)[twist_class(twist)]
            least = min(least, cost)
    assert heavy_bonds.assign(skeleton, candidates, known).cost == pytest.approx(least, abs=1e-9)


def test_bad_input_is_refused(monkeypatch):
    methylamine = molecule('C N', [[0, 0, 0], [1.48, 0, 0]])
    with pytest.raises(ValueError, match=r"'hydrogens' must be one of \('all', 'missing'\) \(got 'some'\)"):
        with_bonds(methylamine, hydrogens='some')
    for charge in (1.0, True):
        with pytest.raises(ValueError, match=rf"'charge' must be a whole number or None \(got {charge}\)"):
            with_bonds(methylamine, charge=charge)
    with pytest.raises(ValueError, match=r"needs atomic numbers 'z' and positions 'pos'"):
        with_bonds(Data(z=methylamine.z))
    with pytest.raises(ValueError, match=r"elements whose valences are known, H, B, C, .* \(got Fe at atom 1"):
        with_bonds(molecule('C Fe', [[0, 0, 0], [2, 0, 0]]))
    with pytest.raises(ValueError, match=r'at least 0.4 Å apart \(got 0 Å between atom 0, C, and atom 1, C\)'):
        with_bonds(molecule('C C', [[0, 0, 0], [0, 0, 0]]), hydrogens='missing')
    with pytest.raises(ValueError, match=r"a neighbor for each hydrogen with hydrogens='all' \(got none at atom 1\)"):
        with_bonds(molecule('O H', [[0, 0, 0], [3, 0, 0]]))
    with pytest.raises(ValueError, match=r'without radicals \(got O with 3 heavy neighbors and 1 hydrogens at atom 0'):
        with_bonds(molecule('O C C C H', [[0, 0, 0], [1.4, 0, 0], [-0.7, 1.2, 0], [-0.7, -1.2, 0], [0, 0, 0.96]]))
    with pytest.raises(ValueError, match=r"of 'formal_charge' 2\)"):
        with_bonds(molecule('C N', methylamine.pos.tolist(), formal_charge=torch.tensor([0, 2])), hydrogens='missing')
    with pytest.raises(ValueError, match=r"without radicals and with 'charge' = 9 \(got none that fit its 2 heavy"):
        with_bonds(methylamine, hydrogens='missing', charge=9)
    ethyl = molecule('C C H H H H H', [[0, 0, 0], [1.5, 0, 0], [-0.4, 1, 0], [-0.4, -0.5, 0.9], [-0.4, -0.5, -0.9],
                                       [2, 0.9, 0], [2, -0.9, 0]])
    with pytest.raises(ValueError, match=r"without radicals and with 'charge' = 0 .*hydrogens='all'"):
        with_bonds(ethyl, charge=0)
    monkeypatch.setattr(heavy_bonds, 'MAX_STEPS', 3)
    with pytest.raises(ValueError, match=r'can be found in 3 steps \(got 9 heavy atoms'):
        with_bonds(heavy(from_smiles('c1ccc2[nH]ccc2c1')), hydrogens='missing')
