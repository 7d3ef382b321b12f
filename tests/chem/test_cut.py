import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem import cut_bond, from_mol
from torch_geometric_inertial.datasets import QM9Sample

pytest.importorskip('rdkit')


def molecule(smiles):
    from rdkit import Chem
    from rdkit.Chem import AllChem

    mol = Chem.AddHs(Chem.MolFromSmiles(smiles))
    assert AllChem.EmbedMolecule(mol, randomSeed=1) == 0
    return from_mol(mol)


@pytest.mark.parametrize('smiles', ['C', 'O', 'C1CC1', 'C=O', 'C#C', 'c1ccccc1'])
def test_there_may_be_nothing_to_cut(smiles):
    assert cut_bond(molecule(smiles), torch.Generator(), perception='data') is None


def test_the_larger_part_is_kept():
    toluene = molecule('Cc1ccccc1')
    part = cut_bond(toluene, torch.Generator(), perception='data')
    assert part.z.tolist() == [6] * 6 + [1] * 5
    assert part.open.tolist() == [1]  # the ring's atom that bore the methyl group


def test_of_equal_parts_either_is_kept():
    ethane = molecule('CC')
    kept = {tuple(cut_bond(ethane, torch.Generator().manual_seed(seed), 'data').open.tolist()) for seed in range(20)}
    assert kept == {(0, ), (1, )}


def test_parts_of_real_molecules_are_connected_and_unmoved():
    generator = torch.Generator().manual_seed(0)
    num = 0
    for data in QM9Sample()[:60]:
        part = cut_bond(data, generator, perception='data')
        if part is None:
            continue
        num += 1
        heavy = int((data.z > 1).sum())
        assert heavy / 2 <= int((part.z > 1).sum()) < heavy
        assert int(part.open) in part.atom.tolist()
        assert torch.equal(part.pos, data.pos[part.atom]) and torch.equal(part.z, data.z[part.atom])
        bonds = data.edge_index[:, data.edge_index[0] < data.edge_index[1]]
        inside = torch.isin(bonds, part.atom)
        assert int((inside[0] != inside[1]).sum()) == 1  # one bond is cut
        pairs = bonds[:, inside.all(dim=0)].T.tolist()
        reached = {int(part.atom[0])}
        for _ in part.atom:
            reached |= {atom for pair in pairs if reached & set(pair) for atom in pair}
        assert reached == set(part.atom.tolist())
    assert num > 20


def test_impossible_valences_are_refused():
    crowded = Data(z=torch.tensor([6, 1, 1, 1, 1, 1]),
                   pos=torch.tensor([[0., 0, 0], [1.09, 0, 0], [-1.09, 0, 0], [0, 1.09, 0], [0, -1.09, 0],
                                     [0, 0, 1.09]]))
    with pytest.raises(ValueError, match='valence'):
        cut_bond(crowded, torch.Generator())
