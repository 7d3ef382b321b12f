import pytest

from torch_geometric_inertial.chem import write_sdf
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import ArrowMolecules, QM9Sample

pytest.importorskip('pyarrow', reason='stores need pyarrow (pip install pyarrow)')


def test_prepare_says_what_it_wrote_and_left_out(tmp_path, capsys):
    torn = QM9Sample()[1].clone()
    torn.pos[0] += 9.0  # a bond of 9 Å
    write_sdf([QM9Sample()[0], torn, QM9Sample()[2]], tmp_path / 'own.sdf')
    assert main(['prepare', str(tmp_path / 'own.sdf'), f'--out={tmp_path / "store"}', '--num-workers=0']) == 0
    out = capsys.readouterr().out
    assert f'wrote 2 of 3 molecules to {tmp_path / "store"}' in out and '1 left out: ' in out
    assert 'molecules/s per core' in out and len(ArrowMolecules(tmp_path / 'store')) == 2


@pytest.mark.parametrize('arguments, status, message', [
    (['none.sdf'], 1, 'none.sdf'),
    (['own.sdf', '--groups=dance'], 2, 'dance'),
    (['own.sdf', '--max-atoms=0'], 2, "'max_atoms' must be at least 1 (got 0)"),
])
def test_mistakes(arguments, status, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_sdf([QM9Sample()[0]], 'own.sdf')
    assert main(['prepare', *arguments, '--num-workers=0']) == status
    err = capsys.readouterr().err
    assert message in err and err.count('\n') == 1 and not (tmp_path / 'store' / 'manifest.json').exists()
