r"""Molecules relaxed to the nearest minimum."""
import re
import sys

import pytest
import torch
from helpers.embedded import embedded, moved
from torch_geometric.data import Data

from torch_geometric_inertial.chem import read_sdf, to_mol, write_sdf
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.refinement import relax

pytest.importorskip('rdkit')


def stretched(smiles='CCO', atom=8, neighbor=2):
    data = embedded(smiles).clone()
    data.pos[atom] += 0.15 * (data.pos[atom] - data.pos[neighbor])
    return data


@pytest.mark.parametrize('method, tolerance', [('mmff', 1e-3), ('xtb', 0.3)])
def test_a_minimum_stays_and_the_fall_is_that_of_the_energy(method, tolerance):
    pytest.importorskip('tblite' if method == 'xtb' else 'rdkit')
    given = stretched()
    before = given.pos.clone()
    once = relax(given, method)
    again = relax(once, method)
    assert once.energy_drop > 1 and once.rmsd > 0.01 and torch.equal(given.pos, before)
    assert abs(again.energy_drop) < tolerance and again.rmsd < 0.05
    report = evaluate([given], 'strain' if method == 'mmff' else 'strain-xtb')
    assert report.values['strain'][0] == pytest.approx(once.energy_drop, abs=1e-3)
    assert report.values['rmsd'][0] == pytest.approx(once.rmsd, abs=1e-3)
    torch.testing.assert_close((once.pos - given.pos).square().sum(1).mean().sqrt().item(), once.rmsd, rtol=1e-3,
                               atol=1e-3)  # laid on what was given


def test_the_energy_of_rdkit_falls_by_what_is_said():
    from rdkit.Chem import rdForceFieldHelpers as helpers

    given = stretched('CC(=O)NC', 5, 0)
    found = relax(given)
    energy = [helpers.MMFFGetMoleculeForceField(mol, helpers.MMFFGetMoleculeProperties(mol)).CalcEnergy()
              for mol in map(to_mol, (given, found))]
    assert found.energy_drop == pytest.approx(energy[0] - energy[1], abs=0.01)


def test_a_rigid_motion_changes_nothing_but_the_pose():
    given = stretched()
    a, b = relax([given, moved(given, torch.Generator().manual_seed(0))])
    assert a.energy_drop == pytest.approx(b.energy_drop, abs=1e-3) and a.rmsd == pytest.approx(b.rmsd, abs=1e-3)
    torch.testing.assert_close(torch.cdist(a.pos, a.pos), torch.cdist(b.pos, b.pos), atol=1e-3, rtol=0)


def test_all_else_is_kept_and_what_was_of_other_positions_is_not(tmp_path):
    given = stretched().to('cpu')
    given.title, given.energy, given.force = 'ethanol', torch.tensor([-1.0]), torch.zeros_like(given.pos)
    found = relax([given])[0]
    assert found.title == 'ethanol' and 'energy' not in found and 'force' not in found and 'energy' in given
    assert torch.equal(found.edge_index, given.edge_index) and found.pos.dtype == given.pos.dtype
    write_sdf([found], tmp_path / 'x.sdf')
    again = relax(tmp_path / 'x.sdf')  # a file of one molecule; its own fall is another
    write_sdf([again], tmp_path / 'y.sdf')
    read = read_sdf(tmp_path / 'y.sdf')[0]
    assert abs(read.properties['energy_drop']) < 0.01 < found.energy_drop


def test_bonds_that_are_missing_are_found():
    given = stretched()
    found = relax(Data(z=given.z, pos=given.pos))
    torch.testing.assert_close(found.pos, relax(given).pos, atol=1e-2, rtol=0)


def test_several_processes_find_the_same():
    given = [stretched(), embedded('O'), stretched('CC(=O)NC', 5, 0)]
    for a, b in zip(relax(given), relax(given, workers=2), strict=True):
        torch.testing.assert_close(a.pos, b.pos)
    assert relax([]) == []


def test_a_charge_is_known_to_xtb():
    pytest.importorskip('tblite')
    ion = relax(embedded('[NH4+]'), 'xtb')
    assert float((ion.pos[1:] - ion.pos[0]).norm(dim=1).mean()) == pytest.approx(1.02, abs=0.03)


def periodic():
    data = embedded('O').clone()
    data.cell, data.pbc = torch.eye(3)[None], torch.tensor([[True, False, False]])
    return data


def radical():
    data = embedded('O').clone()
    data.num_radical_electrons = torch.tensor([1, 0, 0])
    return data


def not_finite():
    data = embedded('O').clone()
    data.pos[1] = float('nan')
    return data


@pytest.mark.parametrize('make, message', [
    (periodic, 'molecule 1: it is periodic, and only molecules are relaxed'),
    (radical, 'molecule 1: it has unpaired electrons, and only closed shells are relaxed'),
    (not_finite, 'molecule 1: data has a position that is not finite'),
    (lambda: embedded('CB(O)O'), 'molecule 1: MMFF94 has no parameters for some atom'),
    (lambda: 'C(C', 'molecule 1: '),
])
def test_what_cannot_be_relaxed_is_named(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        relax([embedded('O'), make()])


def test_bonds_that_rdkit_refuses():
    data = embedded('C').clone()
    data.edge_attr = 2 * torch.ones_like(data.edge_attr)
    with pytest.raises(ValueError, match=r'molecule 0: RDKit refuses the molecule: .*valence'):
        relax(data)


@pytest.mark.parametrize('more, message', [
    (dict(method='uff'), "the method of relaxation must be one of mmff, xtb (got 'uff')"),
    (dict(workers=0), "'workers' must be at least 1 (got 0)"),
])
def test_bad_arguments(more, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        relax('O', **more)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, 'tblite', None)
    with pytest.raises(ImportError, match="relaxation by 'xtb' needs tblite: pip install tblite"):
        relax(embedded('O'), 'xtb')
