import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from torch_geometric_inertial import from_ase, to_ase
from torch_geometric_inertial.chem import Properties

ase = pytest.importorskip('ase')


def hydronium():
    return Data(z=torch.tensor([8, 1, 1, 1]), pos=torch.randn(4, 3, generator=torch.Generator().manual_seed(0)),
                formal_charge=torch.tensor([1, 0, 0, 0]), num_radical_electrons=torch.tensor([0, 0, 0, 0]),
                isotope=torch.tensor([0, 2, 0, 0]), title='an ion', finished=False,
                properties=Properties(dict(gap=1.5)),
                energy=torch.tensor([-7.25], dtype=torch.float64), force=torch.randn(4, 3))


def test_there_and_back():
    data = hydronium()
    atoms = to_ase(data)
    assert atoms.get_chemical_formula() == 'H3O' and atoms.info['charge'] == 1 and atoms.info['spin'] == 1
    assert atoms.get_initial_charges().tolist() == [1, 0, 0, 0]
    assert atoms.get_potential_energy() == -7.25 and not atoms.pbc.any()
    again = from_ase(atoms)
    for name in ('z', 'pos', 'formal_charge', 'isotope', 'energy', 'force'):
        torch.testing.assert_close(again[name], data[name])
    assert again.title == 'an ion' and again.finished is False and again.properties == data.properties


def test_a_crystal_keeps_its_cell():
    from ase.build import bulk

    atoms = bulk('NaCl', 'rocksalt', a=5.64)
    data = from_ase(atoms)
    assert data.z.tolist() == [11, 17] and data.cell.shape == (1, 3, 3) and data.pbc.tolist() == [[True] * 3]
    again = to_ase(data)
    np.testing.assert_allclose(again.cell.array, atoms.cell.array, atol=1e-6)
    assert again.pbc.all() and 'cell' not in from_ase(ase.Atoms('O'))


def test_what_others_write():
    atoms = ase.Atoms('OHH', np.eye(3), masses=[None, 2.014, None], charges=[-1, 0, 0])
    data = from_ase(atoms)
    assert data.isotope.tolist() == [0, 2, 0] and data.formal_charge.tolist() == [-1, 0, 0]
    atoms.set_initial_charges([0.4, -0.2, -0.2])
    assert 'formal_charge' not in from_ase(atoms)
    radical = Data(z=torch.tensor([6]), pos=torch.zeros(1, 3), num_radical_electrons=torch.tensor([2]))
    assert to_ase(radical).info['spin'] == 3


def test_malformed():
    with pytest.raises(ValueError, match="'atoms' has no atoms"):
        from_ase(ase.Atoms())
    with pytest.raises(ValueError, match="'atoms' has no element at atom 0"):
        from_ase(ase.Atoms('X'))
    with pytest.raises(ValueError, match='data needs atomic numbers'):
        to_ase(Data())
