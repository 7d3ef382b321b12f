"""Real drugs, charged species and radicals through our files, RDKit and Open Babel."""
import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial import from_smiles, to_mol
from torch_geometric_inertial.chem import read_molecules, read_sdf, sdf, write_molecules, write_sdf
from torch_geometric_inertial.chem.fields import both_directions

Chem = pytest.importorskip('rdkit.Chem')
GRAPH = ('z', 'edge_index', 'edge_attr', 'formal_charge')
SPECIES = ['CC(=O)[O-].[Na+]', 'C[N+](=O)[O-]', '[2H]C([2H])([2H])O', '[CH3]', 'C[CH]C', '[O][O]', '[CH2]', 'C[NH3+]',
           '[OH-]', 'C[C@@H]([NH3+])C(=O)[O-]', '[13CH4]', 'OS(=O)(=O)C(F)(F)F', 'O[B](O)c1ccccc1', '[Cl-]']


@pytest.fixture(scope='module')
def drugs(shared_data):
    d = np.load(shared_data / 'cascade_dft_drugs' / 'dft8k.npz')
    molecules = []
    for i in np.linspace(0, len(d['ptr']) - 2, 200).astype(int):
        atoms, bonds = slice(*d['ptr'][i:i + 2]), slice(*d['bond_ptr'][i:i + 2])
        edges = both_directions(list(zip(d['bond_u'][bonds].tolist(), d['bond_v'][bonds].tolist(),
                                         (d['bond_order_x2'][bonds] // 2).tolist(), strict=True)))
        molecules.append(Data(z=torch.from_numpy(d['z'][atoms].astype(np.int64)), pos=torch.from_numpy(d['pos'][atoms]),
                              edge_index=edges[:2], edge_attr=edges[2], title=f'drug {i}', finished=True,
                              formal_charge=torch.from_numpy(d['formal_charge'][atoms].astype(np.int64))))
    return molecules


@pytest.mark.parametrize('name', ['a.sdf', 'a.sdf.gz', 'a.jsonl'])
def test_drugs_come_back_from_files(drugs, name, tmp_path):
    assert write_molecules(drugs, tmp_path / name) == len(drugs)
    for a, b in zip(drugs, read_molecules(tmp_path / name), strict=True):
        assert all(torch.equal(a[field], b[field]) for field in GRAPH) and a.title == b.title and b.finished is True
        torch.testing.assert_close(a.pos, b.pos, atol=5.1e-5, rtol=1e-6)


def test_rdkit_and_our_own_reader_read_the_same(drugs, tmp_path, monkeypatch):
    write_sdf([*drugs, *map(from_smiles, SPECIES)], tmp_path / 'a.sdf')
    by_rdkit = read_sdf(tmp_path / 'a.sdf')
    smiles = [Chem.MolToSmiles(mol) for mol in Chem.SDMolSupplier(str(tmp_path / 'a.sdf'), removeHs=False)]
    assert smiles == [Chem.MolToSmiles(to_mol(data)) for data in by_rdkit]
    monkeypatch.setattr(sdf, '_rdkit', lambda: None)
    for a, b in zip(by_rdkit, read_sdf(tmp_path / 'a.sdf'), strict=True):
        for field in (*GRAPH, 'pos', 'num_radical_electrons', 'isotope'):
            assert torch.equal(a[field], b[field]), (a.title, field)


@pytest.mark.parametrize('smiles', SPECIES)
def test_ions_radicals_and_isotopes_keep_what_they_are(smiles, tmp_path):
    data = from_smiles(smiles)
    bare = data.clone()  # as a generator writes it: all atoms are there
    del bare.num_radical_electrons
    for molecule in (data, bare):
        for name in ('a.sdf', 'a.jsonl'):
            write_molecules([molecule], tmp_path / name)
            mol = to_mol(read_molecules(tmp_path / name)[0])
            assert Chem.CanonSmiles(Chem.MolToSmiles(Chem.RemoveHs(mol))) == Chem.CanonSmiles(smiles), name
    pytest.importorskip('ase')
    write_molecules([data], tmp_path / 'a.xyz')
    back, = read_molecules(tmp_path / 'a.xyz')
    for field in ('formal_charge', 'isotope', 'num_radical_electrons'):
        assert torch.equal(back.get(field, torch.zeros_like(data.z)), data[field]), field


def test_open_babel_reads_the_same(drugs, tmp_path):
    pybel = pytest.importorskip('openbabel.pybel', reason='no Open Babel (openbabel-wheel)')
    write_sdf(drugs, tmp_path / 'a.sdf')
    for data, mol in zip(drugs, pybel.readfile('sdf', str(tmp_path / 'a.sdf')), strict=True):
        assert [atom.atomicnum for atom in mol.atoms] == data.z.tolist() and mol.title == data.title
        assert [atom.formalcharge for atom in mol.atoms] == data.formal_charge.tolist()
        bonds = [(b.GetBeginAtomIdx() - 1, b.GetEndAtomIdx() - 1, b.GetBondOrder())
                 for b in pybel.ob.OBMolBondIter(mol.OBMol)]
        assert both_directions(bonds).tolist() == [*data.edge_index.tolist(), data.edge_attr.tolist()]
