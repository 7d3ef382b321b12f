import pytest
import torch

from torch_geometric_inertial.chem import from_mol
from torch_geometric_inertial.chem.functional_groups import DRUG_GROUPS, QM9_GROUPS, find_groups, get_vocabulary

pytest.importorskip('rdkit')


def molecule(smiles):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    return from_mol(mol)


def groups_of(smiles, vocabulary):
    return {name for name, found in zip(vocabulary, find_groups(molecule(smiles), vocabulary), strict=True) if found}


@pytest.mark.parametrize('smiles, groups', [
    ('O', ''), ('N', ''), ('C', 'carbon'), ('CO', 'alcohol'), ('Oc1ccccc1', 'phenol benzene'),
    ('c1ccncc1', 'other_aromatic_ring'), ('c1cc[nH]c1', 'other_aromatic_ring'), ('c1ccoc1', 'other_aromatic_ring'),
    ('c1ccc2[nH]ccc2c1', 'benzene other_aromatic_ring'), ('C=C', 'alkene'), ('C=C=C', 'alkene'), ('CC#C', 'alkyne'),
    ('COC', 'ether'), ('C1CO1', 'ether'), ('C=O', 'aldehyde'), ('CC=O', 'aldehyde'), ('CC(C)=O', 'ketone'),
    ('CC(=O)O', 'carboxylic_acid'), ('OC=O', 'carboxylic_acid'), ('COC=O', 'ester'), ('CC(=O)OC', 'ester'),
    ('CN', 'primary_amine'), ('CNC', 'secondary_amine'), ('C1CN1', 'secondary_amine'), ('CN(C)C', 'tertiary_amine'),
    ('Nc1ccccc1', 'primary_amine benzene'), ('NC=O', 'amide'), ('CN(C)C=O', 'amide'), ('NC(N)=O', 'amide'),
    ('C#N', 'nitrile'), ('CC#N', 'nitrile'), ('C[N+](=O)[O-]', 'nitro'), ('CF', 'alkyl_fluoride'),
    ('Fc1ccccc1', 'aryl_fluoride benzene'), ('O=Cc1ccco1', 'aldehyde other_aromatic_ring'),
    ('OCC1CN1C', 'alcohol tertiary_amine'), ('NC(C)=N', ''), ('O=C1CCCO1', 'ester'), ('COC(=O)OC', ''),
])
def test_groups_of_small_molecules(smiles, groups):
    """Known chemistry; every organic molecule has carbon besides what is listed."""
    expected = set(groups.split()) | ({'carbon'} if 'c' in smiles.lower() else set())
    assert groups_of(smiles, QM9_GROUPS) == expected


@pytest.mark.parametrize('smiles, groups', [
    ('CC(=O)Nc1ccc(O)cc1', 'benzene phenol amide'),  # paracetamol
    ('CC(=O)Oc1ccccc1C(=O)O', 'benzene ester carboxylic_acid'),  # aspirin
    ('Cn1cnc2c1c(=O)n(C)c(=O)n2C', 'imidazole pyrimidine'),  # caffeine, whose six-ring is aromatic to RDKit
    ('NS(=O)(=O)c1ccccc1', 'benzene sulfonamide'), ('CS(C)=O', 'sulfoxide'), ('CS(=O)(=O)C', 'sulfone'),
    ('CSSC', 'disulfide'), ('CS', 'thiol'), ('C1COCCN1', 'morpholine secondary_amine alkyl_ether'),
    ('NC(=N)N', 'guanidine'), ('CC(=N)N', 'amidine'), ('CC=NO', 'oxime'), ('CN=[N+]=[N-]', 'azide'),
    ('COC(=O)N', 'carbamate'), ('NC(=O)N', 'urea'), ('CC(=O)NC(C)=O', 'amide imide'), ('OB(O)C', 'boronic_acid'),
    ('FC(F)(F)C', 'fluoride trifluoromethyl'), ('COP(=O)(OC)OC', 'phosphate'), ('CBr', 'bromide'), ('CI', 'iodide'),
    ('c1ccc2ncccc2c1', 'benzene pyridine quinoline'), ('c1nnn[nH]1', 'tetrazole'), ('COc1ccccc1', 'benzene aryl_ether'),
])
def test_groups_of_drug_like_molecules(smiles, groups):
    assert groups_of(smiles, DRUG_GROUPS) == set(groups.split())


def test_every_pattern_has_its_own_meaning():
    for vocabulary in (QM9_GROUPS, DRUG_GROUPS):
        assert len(set(vocabulary.values())) == len(vocabulary)
    assert len(QM9_GROUPS) == 20


def test_orders_one_hot_as_in_the_qm9_of_pyg_and_charges_left_out():
    data = molecule('CC(=O)C')
    expected = find_groups(data, QM9_GROUPS)
    data.edge_attr = torch.nn.functional.one_hot(data.edge_attr - 1, 4).float()
    assert find_groups(data, QM9_GROUPS) == expected
    nitro = molecule('C[N+](=O)[O-]')
    expected = find_groups(nitro, QM9_GROUPS)
    del nitro.formal_charge  # a nitrogen with four bonds
    assert find_groups(nitro, QM9_GROUPS) == expected


def test_errors():
    with pytest.raises(ValueError, match=r"'vocabulary' must be one of qm9, drugs, or name to SMARTS \(got 'qm8'\)"):
        get_vocabulary('qm8')
    with pytest.raises(ValueError, match=r"'vocabulary' must hold at least one group \(got none\)"):
        get_vocabulary({})
    for smarts in ('[OX2', '', 3):
        with pytest.raises(ValueError, match=r"the SMARTS of group 'odd' does not parse \(got "):
            find_groups(molecule('C'), {'odd': smarts})
    aromatic = molecule('C')
    aromatic.edge_attr = torch.tensor([[0.0, 0.0, 0.0, 1.0]]).expand(8, 4)
    with pytest.raises(ValueError, match='data has aromatic bonds without a Kekulé form'):
        find_groups(aromatic, QM9_GROUPS)


@pytest.mark.parametrize('smiles', ['CC(=O)C', 'Oc1ccccc1', 'CC#N', 'C[N+](=O)[O-]', 'NC=O', 'CCO'])
def test_bonds_without_orders_get_them(smiles):
    data = molecule(smiles)
    expected = find_groups(data, QM9_GROUPS)
    del data.edge_attr
    assert find_groups(data, QM9_GROUPS) == expected
    data.formal_charge = torch.full_like(data.z, 3)  # of the cations that there are none of
    with pytest.raises(ValueError, match="'edge_index' has no bond orders in 'edge_attr', and RDKit finds none"):
        find_groups(data, QM9_GROUPS)


def test_charges_that_no_atom_has():
    data = molecule('CC(=O)C')
    data.formal_charge[2] = 118
    with pytest.raises(ValueError, match=r"'formal_charge' must be whole .* from -15 to 15.*\(got 118 at atom 2\)"):
        find_groups(data, QM9_GROUPS)


def test_all_pairs_are_no_bonds():
    data = molecule('CC(=O)C')
    pairs = torch.combinations(torch.arange(len(data.z))).T
    orders = torch.zeros(pairs.size(1), 4)
    bonded = [[u, v] in data.edge_index.T.tolist() for u, v in pairs.T.tolist()]
    orders[bonded, 0] = 1.0
    for edge_attr in (None, orders):
        data.edge_index, data.edge_attr = pairs, edge_attr
        with pytest.raises(ValueError, match='edge'):
            find_groups(data, QM9_GROUPS)
