import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import Properties, from_mol, from_smiles, to_mol
from torch_geometric_inertial.chem.fields import bonds_of
from torch_geometric_inertial.chem.graph import rdkit_errors

Chem = pytest.importorskip('rdkit.Chem')

WATER = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]))
FORMALDEHYDE = Data(z=torch.tensor([6, 8, 1, 1]), pos=torch.tensor(
    [[0.0, 0, 0], [1.21, 0, 0], [-0.58, 0.94, 0], [-0.58, -0.94, 0]]))


def with_bonds(data, edges, orders=None, **fields):
    data = data.clone()
    data.edge_index = torch.tensor(edges, dtype=torch.long).reshape(-1, 2).t()
    data.edge_attr = None if orders is None else torch.tensor(orders)
    for name, value in fields.items():
        data[name] = value
    return data


@pytest.mark.parametrize('perception', ['edm', 'rdkit-ctd', 'rdkit-vdw'])
def test_perception_finds_the_bonds(perception):
    for data, smiles in ((WATER, '[H]O[H]'), (FORMALDEHYDE, '[H]C([H])=O')):
        mol = to_mol(data, perception, sanitize=True)
        assert Chem.MolToSmiles(mol) == smiles
        torch.testing.assert_close(torch.tensor(mol.GetConformer().GetPositions()), data.pos.double())


def test_bonds_from_the_data():
    data = with_bonds(FORMALDEHYDE, [[0, 1], [1, 0], [0, 2], [0, 3]], [2, 2, 1, 1])
    assert Chem.MolToSmiles(to_mol(data, 'data', sanitize=True)) == '[H]C([H])=O'
    single = to_mol(with_bonds(FORMALDEHYDE, [[0, 1], [0, 2], [0, 3]]), 'data')
    assert [bond.GetBondTypeAsDouble() for bond in single.GetBonds()] == [1, 1, 1]
    charged = with_bonds(WATER, [[0, 1]], [1], formal_charge=torch.tensor([-1, 0, 1]))
    assert Chem.MolToSmiles(to_mol(charged, 'data')) == '[H+].[H][O-]'


def test_no_hydrogen_is_invented():
    lone = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3))
    mol = to_mol(lone, sanitize=True)
    assert mol.GetAtomWithIdx(0).GetTotalNumHs() == 0
    assert mol.GetAtomWithIdx(0).GetNumRadicalElectrons() == 4


def test_there_and_back():
    data = from_mol(to_mol(FORMALDEHYDE))
    assert data.z.tolist() == FORMALDEHYDE.z.tolist()
    torch.testing.assert_close(data.pos, FORMALDEHYDE.pos)
    assert data.edge_index.tolist() == [[0, 0, 0, 1, 2, 3], [1, 2, 3, 0, 0, 0]]
    assert data.edge_attr.tolist() == [2, 1, 1, 2, 1, 1]
    assert data.formal_charge.tolist() == [0, 0, 0, 0]
    again = from_mol(to_mol(data, 'data'))
    assert again.edge_attr.tolist() == data.edge_attr.tolist()


def test_aromatic_bonds_come_back_with_kekule_orders():
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles('c1ccccc1'))
    AllChem.EmbedMolecule(mol, randomSeed=1)
    data = from_mol(mol)
    assert sorted(data.edge_attr.tolist()) == [1] * 18 + [2] * 6


@pytest.mark.parametrize('data, message', [
    (Data(), "data needs atomic numbers 'z' and positions 'pos'"),
    (Data(z=torch.ones(2), pos=torch.zeros(3, 3)),
     r"data needs 'z' \[N\] and 'pos' \[N, 3\] \(got \[2\] and \[3, 3\]\)"),
    (Data(z=torch.ones(0), pos=torch.zeros(0, 3)), 'data has no atoms'),
    (Data(z=torch.tensor([1]), pos=torch.tensor([[0, 0, float('inf')]])),
     r'data has a position that is not finite, at atom 0: \[0.0, 0.0, inf\]'),
    (Data(z=torch.tensor([1, 119]), pos=torch.zeros(2, 3)),
     r"data has no element at atom 1: 'z' must be in 1..118 \(got 119\)"),
])
def test_malformed_molecules(data, message):
    with pytest.raises(ValueError, match=message):
        to_mol(data)


@pytest.mark.parametrize('data, message', [
    (WATER, "data needs bonds in 'edge_index'"),
    (with_bonds(WATER, [[0, 1]], [5]), r"data needs bond orders 1, 2, 3 \(or 1.5, aromatic\) in 'edge_attr' \[E\]"),
    (with_bonds(WATER, [[0, 1]], [[1, 0, 0]]), r'data needs bond orders .* one-hot \[E, 4\], for 1 edges'),
    (with_bonds(WATER, [[0, 3]], [1]), 'data has a bond between atoms 0 and 3 of 3'),
    (with_bonds(WATER, [[2, 2]], [1]), 'data has a bond between atoms 2 and 2 of 3'),
])
def test_malformed_bonds(data, message):
    with pytest.raises(ValueError, match=message):
        to_mol(data, 'data')


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"'perception' must be one of \('data', .*\) \(got 'guess'\)"):
        to_mol(WATER, 'guess')
    with pytest.raises(ValueError, match="'mol' has no conformer"):
        from_mol(Chem.MolFromSmiles('C'))
    with pytest.raises(ValueError, match='RDKit finds no neutral molecule'):
        to_mol(Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, 0], [0.01, 0, 0]])), 'rdkit-ctd')


BENZENE = 'c1ccccc1'


def ring(orders):
    """Benzene with the given orders of its C–C bonds, H last."""
    data = from_smiles(BENZENE)
    kind = data.z[data.edge_index].eq(6).all(0)
    attr = torch.zeros(data.num_edges, dtype=torch.float)
    attr[kind], attr[~kind] = orders, 1.0
    data.edge_attr = attr
    return data


def test_aromatic_bonds_in_all_their_forms_get_kekule_orders():
    for mark in (1.5, 4.0):
        data = ring(mark)
        assert Chem.MolToSmiles(Chem.RemoveHs(to_mol(data))) == BENZENE
        assert sorted(bonds_of(data)[1]) == [1] * 9 + [2] * 3
    data.edge_attr = torch.nn.functional.one_hot(data.edge_attr.long() - 1, 4)  # PyG's QM9
    assert Chem.MolToSmiles(Chem.RemoveHs(to_mol(data))) == BENZENE
    data.edge_attr = (data.edge_attr.argmax(1) + 1).unsqueeze(1)
    assert Chem.MolToSmiles(Chem.RemoveHs(to_mol(data))) == BENZENE
    pyrrole = from_smiles('c1cc[nH]c1')
    ends = pyrrole.z[pyrrole.edge_index]
    pyrrole.edge_attr = torch.where((ends > 1).all(0), 4, 1)
    assert Chem.MolToSmiles(Chem.RemoveHs(to_mol(pyrrole))) == 'c1cc[nH]c1'
    pyrrole.z[pyrrole.z == 7] = 6  # five carbons of three neighbors each: no Kekulé form
    with pytest.raises(ValueError, match='data has aromatic bonds without a Kekulé form'):
        bonds_of(pyrrole)


@pytest.mark.parametrize('smiles', [
    'CC(=O)[O-].[Na+]', 'C[N+](=O)[O-]', '[2H]C([2H])([2H])O', '[13CH4]', '[CH3]', '[O][O]', '[CH2]', 'C[N+](C)(C)C',
    'C[C@H](N)C(=O)O', 'C/C=C/C', '[Cl-]', 'O=S(=O)(O)C(F)(F)F', 'C[N-][N+]#N', 'O=P(O)(O)O'])
def test_what_a_molecule_is_survives_rdkit_and_ase(smiles):
    data = from_smiles(smiles, seed=3)
    assert data.title == smiles
    data.finished, data.properties = True, Properties(dict(gap=6.5, count=3, note='x y', planar=False))
    mol = to_mol(data)
    assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol))) == Chem.CanonSmiles(smiles)
    for again in (from_mol(mol), from_mol(Chem.Mol(mol))):
        for name in ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'num_radical_electrons', 'isotope'):
            assert torch.equal(again[name], data[name]), name
        assert again.title == smiles and again.finished is True and again.properties == data.properties


def test_a_dative_bond_is_a_single_one_between_charges():
    mol = Chem.AddHs(Chem.MolFromSmiles('[NH3]->B'))
    from rdkit.Chem import AllChem

    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    data = from_mol(mol)
    assert dict(zip(data.z.tolist(), data.formal_charge.tolist(), strict=True)) == {7: 1, 5: -1, 1: 0}
    assert Chem.MolToSmiles(Chem.RemoveHs(to_mol(data))) == '[BH3-][NH3+]'


def test_which_conformer():
    mol = Chem.AddHs(Chem.MolFromSmiles('CCO'))
    from rdkit.Chem import AllChem

    _, second = AllChem.EmbedMultipleConfs(mol, 2, randomSeed=1)
    expected = torch.tensor(mol.GetConformer(second).GetPositions()).float()
    assert torch.equal(from_mol(mol, conf_id=second).pos, expected)
    assert not torch.equal(from_mol(mol).pos, expected)
    with pytest.raises(ValueError, match=r"'conf_id' must be that of a conformer, \[0, 1\] \(got 7\)"):
        from_mol(mol, conf_id=7)
    AllChem.Compute2DCoords(mol)
    with pytest.raises(ValueError, match=r"'mol' must have a conformer in three dimensions \(got a drawing"):
        from_mol(mol)


def test_what_is_no_molecule_for_a_geometry():
    zero = Chem.MolFromSmiles('[Fe]~O')
    zero.AddConformer(Chem.Conformer(2))
    with pytest.raises(ValueError, match="'mol' has a bond of type UNSPECIFIED between atoms 0 and 1"):
        from_mol(zero)
    dummy = Chem.MolFromSmiles('*O')
    dummy.AddConformer(Chem.Conformer(2))
    with pytest.raises(ValueError, match="'mol' has no element at atom 0"):
        from_mol(dummy)
    huge = Chem.MolFromSmiles('O')
    huge.AddConformer(Chem.Conformer(1))
    huge.GetConformer().SetAtomPosition(0, (1e39, 0, 0))
    with pytest.raises(ValueError, match="'mol' has a position that is not finite, at atom 0"):
        from_mol(huge)


def complete_graph(n):
    return torch.combinations(torch.arange(n)).t()


@pytest.mark.parametrize('change, message', [
    (dict(edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.tensor([1, 2])),
     "data has two orders for the bond between atoms 1 and 0 in 'edge_attr'"),
    (dict(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.zeros(1, 4)), r'one-hot \[E, 4\], for 1 edges'),
    (dict(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([0.97])), r'for 1 edges \(got \[0.97'),
    (dict(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([1]), formal_charge=torch.tensor([1])),
     r"'formal_charge' must be whole numbers \[N\] from -15 to 15, N = 3 \(got \[1\]\)"),
    (dict(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([1]), isotope=torch.tensor([0, 0.5, 0])),
     r"'isotope' must be whole numbers \[N\] from 0 to 999, N = 3 \(got 0.5 at atom 1\)"),
    *((dict(edge_index=torch.tensor([[0], [1]]), edge_attr=torch.tensor([1]), **{name: torch.tensor([0, 0, value])}),
       rf"'{name}' must be whole numbers \[N\] from .* \(got {got} at atom 2\)")
      for name, value, got in (('formal_charge', 255, 255), ('formal_charge', -118, -118), ('isotope', -1, -1),
                               ('formal_charge', 2**31, 2**31), ('isotope', 70_000, 70_000),
                               ('num_radical_electrons', -1, -1), ('num_radical_electrons', float('inf'), 'inf'))),
    (dict(formal_charge=torch.zeros(3, dtype=torch.complex64)), r"'formal_charge' .* \(got Tensor\)"),
    (dict(z=torch.tensor([8.0, 1, 1])), r"data needs whole numbers in 'z' \(got torch.float32\)"),
    (dict(properties={'a': [1]}), r"property 'a' must be a number, a truth value or a text \(got list\)"),
    (dict(properties={'a<b': 1}), r"the name of a property must be a text on one line without '<' and '>'"),
])
def test_contradictory_fields(change, message):
    data = WATER.clone()
    for name, value in change.items():
        data[name] = value
    with pytest.raises(ValueError, match=message):
        to_mol(data)


def test_what_rdkit_raises_is_one_line():
    from rdkit import Chem

    with pytest.raises(ValueError, match=r'^here: Range Error idx .*RDKIT') as caught, rdkit_errors('here'):
        Chem.MolFromSmiles('C').GetAtomWithIdx(1)  # a RuntimeError of seven lines
    assert '\n' not in str(caught.value)
    carbon = Data(z=torch.tensor([6, 1, 1, 1, 1, 1]), pos=torch.randn(6, 3), edge_index=torch.tensor(
        [[0] * 5, [1, 2, 3, 4, 5]]), edge_attr=torch.ones(5))
    with pytest.raises(ValueError, match=r"^RDKit refuses 'data': Explicit valence for atom # 0 C, 5, is greater"):
        to_mol(carbon)


def test_edges_that_are_no_bonds_do_not_reach_rdkit():
    cloud = Data(z=torch.full((80,), 6), pos=torch.randn(80, 3, generator=torch.Generator().manual_seed(0)) * 3,
                 edge_index=complete_graph(80))
    with pytest.raises(ValueError, match=r"bonds in 'edge_index', at most 16 at an atom \(got 79\)"):
        to_mol(cloud, 'data')
    near = Data(z=torch.tensor([8, 1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]),
                edge_index=complete_graph(3))
    with pytest.raises(ValueError, match=r'got an edge of 1.52 Å between atoms 1, H, and 2, H, without orders'):
        to_mol(near, 'data')
    assert to_mol(near).GetNumBonds() == 2  # edges without orders: perceived


def test_smiles_that_are_none():
    for smiles in ('', 'C1CC', 3, '[Xx]', '[70000CH4]', '[NH4+257]', '[C+200]'):
        with pytest.raises(ValueError, match="'smiles' must be"):
            from_smiles(smiles)
    assert torch.equal(from_smiles('CCO', seed=5).pos, from_smiles('CCO', seed=5).pos)
    assert not torch.equal(from_smiles('CCO', seed=5).pos, from_smiles('CCO', seed=6).pos)
