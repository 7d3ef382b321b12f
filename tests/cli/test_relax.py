r"""`inertial relax`."""
import subprocess
import sys

import pytest
import torch

from torch_geometric_inertial.chem import read_molecules, read_sdf, write_sdf
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.datasets import QM9Sample

pytest.importorskip('rdkit')


@pytest.fixture
def file(tmp_path):
    molecules = list(QM9Sample()[20:23])
    for i, data in enumerate(molecules):
        data.title = f'number {i}'
    write_sdf(molecules, tmp_path / 'three.sdf')
    return tmp_path / 'three.sdf'


@pytest.mark.parametrize('method, ending', [('mmff', 'sdf'), ('mmff', 'xyz'), ('mmff', 'jsonl'), ('xtb', 'sdf')])
def test_relax(file, tmp_path, capsys, method, ending):
    pytest.importorskip('tblite' if method == 'xtb' else 'rdkit')
    out = tmp_path / f'relaxed.{ending}'
    assert main(['relax', str(file), f'--method={method}', '--workers=2', f'--out={out}']) == 0
    assert f'wrote 3 molecules relaxed by {method} to {out}: median fall of the energy ' in capsys.readouterr().out
    for before, after in zip(read_sdf(file), read_molecules(out), strict=True):
        assert after.title == before.title and torch.equal(after.z, before.z)
        assert after.properties['energy_drop'] > 0 and 0 < after.properties['rmsd'] < 1


def test_what_cannot_be_relaxed_is_named_and_the_others_are_written(file, tmp_path, capsys):
    molecules = read_sdf(file)
    molecules[1].z[0] = 5  # MMFF94 has no boron
    write_sdf(molecules, file)
    assert main(['relax', str(file), f'--out={tmp_path / "out.sdf"}']) == 0
    assert '     1 number 1: ' in capsys.readouterr().err
    assert [data.title for data in read_sdf(tmp_path / 'out.sdf')] == ['number 0', 'number 2']
    write_sdf(molecules[1:2], file)
    assert main(['relax', str(file), f'--out={tmp_path / "none.sdf"}']) == 1
    assert 'none of the 1 molecules can be relaxed; ' in capsys.readouterr().err
    assert not (tmp_path / 'none.sdf').exists()


@pytest.mark.parametrize('arguments, status, message', [
    (['{file}', '--method=uff'], 2, "the method of relaxation must be one of mmff, xtb (got 'uff')"),
    (['{file}', '--workers=0'], 2, "'workers' must be at least 1 (got 0)"),
    (['{file}', '--out=x.pdf'], 1, "'x.pdf' must end in one of .sdf, .xyz, .jsonl"),
    (['{folder}/empty.sdf'], 1, 'the file is empty, or holds no molecule'),
    (['{folder}/nothing.sdf'], 1, 'No such file'),
    (['{folder}/folder.sdf'], 1, 'Is a directory'),
])
def test_mistakes_in_relax(file, monkeypatch, capsys, arguments, status, message):
    monkeypatch.chdir(file.parent)
    (file.parent / 'empty.sdf').touch()
    (file.parent / 'folder.sdf').mkdir()
    assert main(['relax', *(word.format(file=file, folder=file.parent) for word in arguments)]) == status
    error = capsys.readouterr().err
    assert message in error and error.startswith('inertial relax: ') and error.count('\n') == 1
    assert not (file.parent / 'relaxed.sdf').exists()


@pytest.mark.parametrize('command', [['relax', '{file}', '--method=xtb'], ['generate', '2', '--relax=xtb']])
def test_a_missing_package_is_named(file, command):
    words = [word.format(file=file) for word in command]
    code = "import sys; sys.modules['tblite'] = None\n" \
        f'from torch_geometric_inertial.cli.main import main; sys.exit(main({words!r}))'
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=file.parent)
    assert result.returncode == 2
    assert result.stderr == f"inertial {command[0]}: relaxation by 'xtb' needs tblite: pip install tblite\n"
