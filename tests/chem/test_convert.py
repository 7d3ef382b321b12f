from pathlib import Path

import pytest
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import as_data, as_molecules, from_smiles, to_ase, to_mol
from torch_geometric_inertial.chem import Properties, as_items, write_sdf, write_xyz

Chem = pytest.importorskip('rdkit.Chem')
ETHANOL = from_smiles('CCO')


def test_one_molecule_in_every_form(tmp_path):
    write_sdf([ETHANOL], tmp_path / 'one.sdf')
    assert as_data(ETHANOL) is ETHANOL
    for form in ('CCO', to_mol(ETHANOL), to_ase(ETHANOL), tmp_path / 'one.sdf', str(tmp_path / 'one.sdf'),
                 Chem.MolFromSmiles('OCC')):
        data = as_data(form)
        assert sorted(data.z.tolist()) == sorted(ETHANOL.z.tolist()) and data.pos.shape == (9, 3)
        assert len(as_molecules(form)) == 1
    assert as_data('CCO').z.tolist() == ETHANOL.z.tolist()


def test_several_molecules(tmp_path):
    pair = [ETHANOL, from_smiles('C')]
    write_xyz(pair, tmp_path / 'two.xyz')
    for form in (pair, tuple(pair), (data for data in pair), Batch.from_data_list(pair), ['CCO', to_mol(pair[1])],
                 tmp_path / 'two.xyz'):
        assert [data.num_nodes for data in as_molecules(form)] == [9, 5]
    assert as_molecules([]) == []
    with pytest.raises(ValueError, match=r"two.xyz' must hold one molecule \(got 2\)"):
        as_data(tmp_path / 'two.xyz')


def test_what_is_no_molecule_keeps_its_place(tmp_path):
    (tmp_path / 'two.xyz').write_text('1\nbroken\nC 0 0 zero\n1\nhelium\nHe 0 0 0\n')
    broken, helium = as_items(tmp_path / 'two.xyz')
    assert isinstance(broken, ValueError) and "record 0 ('broken'), line 3" in str(broken)
    assert helium.z.tolist() == [2]
    with pytest.raises(ValueError, match=r"two.xyz: record 0 \('broken'\), line 3"):
        as_molecules(tmp_path / 'two.xyz')
    items = as_items(['CCO', None, broken])
    assert items[0].num_nodes == 9 and 'a molecule must be' in str(items[1]) and items[2] is broken


def test_what_is_no_molecule():
    kinds = 'must be a Data, an RDKit molecule, ASE atoms, a SMILES or the name of a file'
    with pytest.raises(ValueError, match=rf'a molecule {kinds} \(got int\)'):
        as_data(3)
    with pytest.raises(ValueError, match=r'\(got DataBatch\)'):
        as_data(Batch.from_data_list([ETHANOL]))
    with pytest.raises(ValueError, match='molecules must be a Data'):
        as_molecules(3)
    with pytest.raises(ValueError, match=r'molecule 1: a molecule must be .* \(got NoneType\)'):
        as_molecules([ETHANOL, None])
    with pytest.raises(ValueError, match="molecule 0: 'smiles' must be the SMILES of a molecule"):
        as_molecules(['no molecule'])
    with pytest.raises(OSError, match='absent'):
        as_molecules('absent.sdf')
    with pytest.raises(ValueError, match=r"'x.png' must end in one of \.sdf"):
        as_data(Path('x.png'))


def test_properties_of_different_molecules_stand_in_one_batch():
    one, two = (Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), properties=Properties(values))
                for values in ({'gap': 1.0}, {'note': 'x'}))
    batch = Batch.from_data_list([one, two])
    assert [data.properties for data in batch.to_data_list()] == [{'gap': 1.0}, {'note': 'x'}]
    assert one.clone().properties == one.properties and dict(one.properties) == {'gap': 1.0}
    assert one.properties.get('absent') is None and 'gap' in one.properties and len(one.properties) == 1
    assert repr(one.properties) == "Properties({'gap': 1.0})"
