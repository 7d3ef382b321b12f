r"""What is taken as molecules."""
import pytest
import torch
from helpers.embedded import embedded
from helpers.molecules_by_hand import METHANE, WATER
from torch_geometric.data import Batch

from torch_geometric_inertial.chem import to_mol, write_sdf
from torch_geometric_inertial.metrics import evaluate

pytest.importorskip('rdkit')


def test_forms_of_molecules():
    pytest.importorskip('ase')
    from torch_geometric_inertial.chem import to_ase

    water = embedded('O')
    forms = [water, to_mol(water), 'O', None]
    report = evaluate(forms)
    assert report.protocol == 'bonds' and report.status == ('ok', 'ok', 'ok', 'missing')
    assert evaluate([to_ase(water)], 'edm-qm9').ok == evaluate(water).ok == 1
    for alone in (to_ase(water), to_mol(water), 'O'):  # ASE atoms are iterable, too
        report = evaluate(alone, 'edm-qm9')
        assert report.num_requested == 1 and report.ok == 1
    assert evaluate(Batch.from_data_list([METHANE, WATER])).num_requested == 2


def test_a_file_and_its_molecules_have_the_same_verdicts(tmp_path):
    molecules = [embedded(s) for s in ('CCO', 'C[N+](=O)[O-]', 'C[NH3+]')]
    molecules[2].finished = False
    write_sdf(molecules, tmp_path / 'three.sdf')
    report = evaluate(tmp_path / 'three.sdf')
    assert report.protocol == 'bonds' and report.smiles[:2] == ('CCO', 'C[N+](=O)[O-]')
    assert evaluate(str(tmp_path / 'three.sdf')) == report
    memory = evaluate(molecules)
    assert report.status == memory.status == ('ok', 'ok', 'unfinished')


def test_a_record_that_cannot_be_read_stays_in_the_count(tmp_path):
    write_sdf([embedded('CCO'), embedded('CN'), embedded('CC')], tmp_path / 'three.sdf')
    lines = (tmp_path / 'three.sdf').read_text().split('\n')
    second = lines.index('$$$$') + 1
    lines[second + 4] = lines[second + 4].replace(lines[second + 4].split()[0], 'nan', 1)
    (tmp_path / 'three.sdf').write_text('\n'.join(lines))
    report = evaluate(tmp_path / 'three.sdf', num_requested=4)
    assert report.status == ('ok', 'unreadable', 'ok', 'missing') and report.validity == 2 / 4


def test_what_cannot_be_read_is_a_failure_and_what_is_none_is_an_error():
    report = evaluate(['O', 'this is no SMILES', ValueError('record 7')])
    assert report.status == ('ok', 'unreadable', 'unreadable') and report.ok == 1 / 3
    with pytest.raises(ValueError, match=r"'molecules' must be molecules, .*\(got 'no molecule'\)"):
        evaluate('no molecule')
    for wrong in (7, b'O', 'molecules.pdf', torch.zeros(2).sum()):
        with pytest.raises((ValueError, TypeError)):
            evaluate(wrong)
    with pytest.raises(ValueError, match=r"'reference' must be molecules, or the name of a file .*\(got 7\)"):
        evaluate([METHANE], reference=7)
