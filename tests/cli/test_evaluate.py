r"""inertial evaluate."""
import json

import pytest
from helpers.embedded import embedded

from torch_geometric_inertial.chem import write_sdf
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.metrics import Report

pytest.importorskip('rdkit')


@pytest.fixture
def file(tmp_path):
    molecules = [embedded('CCO'), embedded('C[N+](=O)[O-]'), embedded('CS(C)=O')]
    write_sdf(molecules, tmp_path / 'three.sdf')
    return tmp_path / 'three.sdf'


def test_the_protocol_and_the_reference(file, tmp_path, capsys):
    assert main(['evaluate', str(file), '--json', str(tmp_path / 'r.json')]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith('bonds v1, ') and printed[0].endswith(', 3 requested')
    assert printed[-1] == 'verdicts: 3 ok'
    assert Report.from_json((tmp_path / 'r.json').read_text()).smiles[1] == 'C[N+](=O)[O-]'
    assert main(['evaluate', str(file), '--protocol', 'geom-revisited', '--reference', str(file), '--workers=2',
                 '--num-requested=4', '--json', str(tmp_path / 'r.json')]) == 0
    stored = json.loads((tmp_path / 'r.json').read_text())
    assert stored['status'] == ['ok', 'ok', 'valence', 'missing'] and stored['ok'] == 1 / 2
    assert stored['figures']['ok']['reference'] == 2 / 3 and stored['novelty'] == 0


@pytest.mark.parametrize('more, message', [
    (['--protocol', 'edm'], "'protocol' must be one of bonds, edm-geom, edm-qm9"),
    (['--workers', '0'], "'workers' must be at least 1 (got 0)"),
    (['--num-requested', '2'], "'num_requested' must be at least the number of molecules, 3 (got 2)"),
])
def test_mistakes_are_one_line(file, capsys, more, message):
    assert main(['evaluate', str(file), *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1
