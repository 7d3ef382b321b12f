r"""Bonds perceived by RDKit in a process of its own."""
import pytest
import torch
from helpers.embedded import embedded
from helpers.molecules_by_hand import CH5, CO2, METHANE, TWO_WATERS, WATER, molecule

from torch_geometric_inertial.chem.perceive import perceive
from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.metrics.protocols import xyz2mol_vdw

pytest.importorskip('rdkit')


@pytest.mark.parametrize('protocol', ['xyz2mol-vdw', 'xyz2mol-ctd'])
def test_by_hand(protocol):
    report = evaluate([METHANE, WATER, CO2, TWO_WATERS, CH5], protocol)
    assert report.status[:4] == ('ok', 'ok', 'ok', 'disconnected') and report.status[4] != 'ok'
    assert report.smiles[:4] == ('C', 'O', 'O=C=O', 'O.O')
    assert report.key == f"{protocol} v1, rdkit {report.versions['rdkit']}"


@pytest.mark.parametrize('use_vdw', [True, False])
def test_the_verdict_is_that_of_rdkit(use_vdw):
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    for data in QM9Sample()[::97]:
        lines = [f'{SYMBOLS[z]} {x:.6f} {y:.6f} {w:.6f}' for z, (x, y, w) in
                 zip(data.z.tolist(), data.pos.tolist(), strict=True)]
        mol = Chem.MolFromXYZBlock('\n'.join([str(len(lines)), '', *lines]))
        try:
            with rdBase.BlockLogs():
                rdDetermineBonds.DetermineBonds(mol, charge=0, useVdw=use_vdw)
            expected = Chem.MolToSmiles(Chem.RemoveHs(mol), isomericSmiles=False)
        except ValueError:
            expected = None
        assert perceive(Plain(data.z.tolist(), data.pos.tolist()), use_vdw, 1000).smiles == expected


def test_a_time_limit_is_a_status(monkeypatch):
    monkeypatch.setattr(xyz2mol_vdw.XYZ2MolVdW, 'seconds', 0.0)
    report = evaluate([METHANE, None, WATER], 'xyz2mol-vdw')
    assert report.status == ('timeout', 'missing', 'timeout') and report.validity == 0


def test_too_many_tries_are_a_timeout():
    drug = embedded('O=[N+]([O-])c1ccc(S(=O)(=O)Nc2ccc([N+](=O)[O-])cc2)cc1')
    assert perceive(Plain(drug.z.tolist(), drug.pos.tolist()), True, 1).status == 'timeout'


def test_elements_without_valences_are_not_judged():
    iron = molecule([26, 8], [[0, 0, 0], [1.6, 0, 0]])
    report = evaluate([METHANE, iron], 'xyz2mol-ctd', workers=2)
    assert report.status == ('ok', 'unknown_element') and report.validity == 1


def test_an_ion_is_not_taken_for_a_neutral_molecule():
    """The protocols that know positions alone assume a neutral molecule, as the literature does; bonds know better."""
    ammonium = embedded('C[NH3+]')
    for protocol in ('xyz2mol-vdw', 'xyz2mol-ctd', 'edm-qm9'):
        assert evaluate([ammonium, embedded('CN')], protocol).status[0] in ('perception_failed', 'valence')
    assert evaluate([ammonium], 'bonds').status == ('ok', )


def test_a_cloud_of_atoms_ends():
    cloud = molecule([6, 7, 8] * 12, torch.rand(36, 3, generator=torch.Generator().manual_seed(0)).mul(6).tolist())
    assert evaluate([cloud], 'xyz2mol-ctd').status[0] in ('clash', 'perception_failed', 'timeout', 'radical')
