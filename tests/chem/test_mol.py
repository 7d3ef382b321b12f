import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import from_mol, to_mol

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
    charged = with_bonds(WATER, [[0, 1]], [1], charge=torch.tensor([-1, 0, 1]))
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
    assert data.charge.tolist() == [0, 0, 0, 0]
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
    (with_bonds(WATER, [[0, 1]], [5]), r"data needs bond orders 1, 2, 3 in 'edge_attr' \[E\]"),
    (with_bonds(WATER, [[0, 1]], [[1, 0, 0]]), r"data needs bond orders 1, 2, 3 in 'edge_attr' \[E\]"),
    (with_bonds(WATER, [[0, 3]], [1]), 'data has a bond between atoms 0 and 3 of 3'),
    (with_bonds(WATER, [[2, 2]], [1]), 'data has a bond between atoms 2 and 2 of 3'),
])
def test_malformed_bonds(data, message):
    with pytest.raises(ValueError, match=message):
        to_mol(data, 'data')


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"'perception' must be one of \('edm', .*\) \(got 'guess'\)"):
        to_mol(WATER, 'guess')
    with pytest.raises(ValueError, match="'mol' has no conformer"):
        from_mol(Chem.MolFromSmiles('C'))
    with pytest.raises(ValueError, match='RDKit finds no neutral molecule'):
        to_mol(Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, 0], [0.01, 0, 0]])), 'rdkit-ctd')
