r"""inertial report."""
import subprocess
import sys

import pytest
from helpers.embedded import embedded

from torch_geometric_inertial.chem import write_sdf
from torch_geometric_inertial.cli.main import main

pytest.importorskip('rdkit')


@pytest.fixture
def file(tmp_path):
    write_sdf([embedded('CCO'), embedded('CS(C)=O')], tmp_path / 'two.sdf')
    return tmp_path / 'two.sdf'


def test_files_side_by_side(file, tmp_path, capsys):
    (tmp_path / 'b').mkdir()
    (tmp_path / 'b' / 'two.sdf').write_bytes(file.read_bytes())
    out = tmp_path / 'new' / 'page.html'
    assert main(['report', str(file), '--num-shown', '1', str(tmp_path / 'b' / 'two.sdf'), '--out', str(out)]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed == [f'{file}: 2 of 2 ok (bonds v1)', f'{tmp_path}/b/two.sdf: 2 of 2 ok (bonds v1)', f'wrote {out}']
    assert '3Dmol' in out.read_text()


@pytest.mark.parametrize('more, message', [
    (['--protocol', 'fame'], "'protocol' must be one of bonds, "),
    (['--num-shown', '0'], "'num_shown' must be at least 1 (got 0)"),
    (['--out', 'page.png'], "'out' must end in .html (got 'page.png')"),
    (['--workers', '0'], "'workers' must be at least 1 (got 0)"),
])
def test_mistakes_are_one_line(file, capsys, more, message):
    assert main(['report', str(file), *more]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


def test_files_that_are_none(file, tmp_path, capsys):
    (tmp_path / 'empty.sdf').touch()
    (tmp_path / 'folder.sdf').mkdir()
    for paths, message in (([file, file], "'files' must be different (got "),
                           ([tmp_path / 'empty.sdf'], 'the file is empty, or holds no molecule'),
                           ([tmp_path / 'folder.sdf'], 'Is a directory'), ([tmp_path], "(got "),
                           ([tmp_path / 'no.sdf'], 'No such file')):
        assert main(['report', *map(str, paths), '--out', str(tmp_path / 'x.html')]) == 1
        error = capsys.readouterr().err
        assert message in error and error.count('\n') == 1 and not (tmp_path / 'x.html').exists()


def test_a_missing_package_is_named(file):
    code = "import sys; sys.modules['rdkit'] = None\n" \
        f"from torch_geometric_inertial.cli.main import main; sys.exit(main(['report', {str(file)!r}]))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=file.parent)
    assert result.returncode == 2
    assert result.stderr == "inertial report: protocol 'bonds' needs rdkit: pip install rdkit\n"
