r"""Energies of relaxation."""
import pytest
import torch
from helpers.embedded import embedded, moved, without

from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.metrics import evaluate

pytest.importorskip('rdkit')


def relaxed(smiles):
    from rdkit.Chem import rdForceFieldHelpers

    from torch_geometric_inertial.chem import to_mol

    data = embedded(smiles).clone()
    mol = to_mol(data)
    assert rdForceFieldHelpers.MMFFOptimizeMolecule(mol, maxIters=5000) == 0
    data.pos = torch.from_numpy(mol.GetConformer().GetPositions())
    return data


def test_a_minimum_has_no_strain_and_a_stretched_bond_that_of_the_force_field():
    from rdkit.Chem import rdForceFieldHelpers as helpers

    from torch_geometric_inertial.chem import to_mol

    rest = relaxed('CCO')
    stretched = rest.clone()
    stretched.pos[8] += 0.15 * (rest.pos[8] - rest.pos[2]) / (rest.pos[8] - rest.pos[2]).norm()
    report = evaluate([rest, stretched, None], 'strain')
    drop, apart = report.values['strain'], report.values['rmsd']
    energy = [helpers.MMFFGetMoleculeForceField(mol, helpers.MMFFGetMoleculeProperties(mol)).CalcEnergy()
              for mol in map(to_mol, (rest, stretched))]
    assert abs(drop[0]) < 1e-3 and apart[0] < 0.02 and drop[2] is None
    assert drop[1] == pytest.approx(energy[1] - energy[0], abs=0.01) and 0.01 < apart[1] < 0.1
    assert report.strain == pytest.approx((drop[0] + drop[1]) / 2)
    assert report.relaxed == 2 / 3 and report.figures['strain'].total == 2


def test_pose_changes_nothing_and_what_fails_is_said():
    data = embedded('CC(=O)NC')
    strange = embedded('CB(O)O')  # MMFF94 has no boron
    report = evaluate([data, moved(data, torch.Generator().manual_seed(0)), without(data, 6), strange], 'strain')
    assert report.values['strain'][0] == pytest.approx(report.values['strain'][1], abs=1e-3)
    assert report.status == ('ok', 'ok', 'radical', 'perception_failed') and report.relaxed == 1 / 2


def test_gfn2_xtb():
    pytest.importorskip('tblite')
    pytest.importorskip('ase')
    from torch_geometric_inertial.chem.minimize import minimize_xtb

    water, ion = embedded('O'), embedded('[NH4+]')
    report = evaluate([water, ion, without(water, 1)], 'strain-xtb')
    assert report.status == ('ok', 'ok', 'radical') and report.relaxed == 2 / 3
    assert min(report.values['strain'][:2]) >= 0 and max(report.values['strain'][:2]) < 30
    once = Plain(water.z.tolist(), water.pos.tolist(), [(0, 1), (0, 2)], [1, 1])
    assert minimize_xtb(once, 1).converged is False  # one step is not enough
