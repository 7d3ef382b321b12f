import inspect
import os
import subprocess
import sys
from functools import wraps
from importlib import import_module

import pytest
import yaml

from torch_geometric_inertial.cli.hydrogens import hydrogens
from torch_geometric_inertial.cli.main import COMMANDS, _as_list, _with_values, main
from torch_geometric_inertial.cli.report import report


def test_without_a_command_all_are_listed(capsys):
    assert main([]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS) and 'Exit status: 0, or 1' in out


def test_unknown_command(capsys):
    assert main(['dance']) == 2
    assert "no command 'dance' (there are prepare, train, generate" in capsys.readouterr().err


def test_the_list_of_commands_waits_for_no_large_package():
    code = "import sys; from torch_geometric_inertial.cli.main import main\n" \
        "main([]); main(['--help']); main(['dance'])\n" \
        "sys.exit(bool({'torch', 'torch_geometric', 'numpy', 'rdkit', 'jsonargparse'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, '-c', code], capture_output=True).returncode == 0


def test_the_module_is_the_command_line():
    result = subprocess.run([sys.executable, '-m', 'torch_geometric_inertial', 'dance'], capture_output=True, text=True)
    assert result.returncode == 2 and "no command 'dance'" in result.stderr


def test_version(capsys):
    assert main(['--version']) == 0
    assert capsys.readouterr().out.count('.') == 2


@pytest.mark.parametrize('unbuffered', ['', '1'])
@pytest.mark.parametrize('to, reason', [('full', 'No space left'), ('closed', 'Broken pipe')])
def test_a_standard_output_that_cannot_be_written_to_is_one_line(to, reason, unbuffered):
    reader, pipe = os.pipe()
    os.close(reader)
    with open(pipe, 'w') as closed, open('/dev/full', 'w') as full:
        result = subprocess.run([sys.executable, '-m', 'torch_geometric_inertial', '--help'], text=True,
                                stdout=full if to == 'full' else closed, stderr=subprocess.PIPE,
                                env={**os.environ, 'PYTHONUNBUFFERED': unbuffered})
    assert result.returncode == 1 and reason in result.stderr and result.stderr.count('\n') == 1


@pytest.mark.parametrize('name', COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as stop:
        main([name, '--help'])
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert f'usage: inertial {name}' in out and f'Example: inertial {name}' in out


def test_a_mistake_is_one_line_and_status_1(tmp_path, capsys):
    assert main(['evaluate', str(tmp_path / 'molecules.pdf')]) == 1
    error = capsys.readouterr().err
    assert error.startswith('inertial evaluate: ') and 'ends in one of .sdf' in error and error.count('\n') == 1


@pytest.mark.parametrize('missing, command', [('PIL', 'view'), ('rdkit', 'evaluate')])
def test_a_missing_package_is_one_line_with_what_to_do(missing, command, tmp_path):
    (tmp_path / 'one.xyz').write_text('2\nmethanol\nC 0 0 0\nO 1.42 0 0\n')
    code = f"import sys; sys.modules['{missing}'] = None\n" \
        f"from torch_geometric_inertial.cli.main import main; sys.exit(main(['{command}', 'one.xyz']))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 2 and result.stderr.startswith(f'inertial {command}: '), result.stderr
    assert 'pip install' in result.stderr and result.stderr.count('\n') == 1


def test_a_warning_is_one_line(tmp_path):
    (tmp_path / 'two.xyz').write_text('1\nbroken\nC 0 0 zero\n1\nhelium\nHe 0 0 0\n')
    command = [sys.executable, '-m', 'torch_geometric_inertial', 'view', 'two.xyz']
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0 and (tmp_path / 'molecules.png').is_file()
    assert result.stderr.startswith('inertial view: ') and "('broken')" in result.stderr
    assert result.stderr.count('\n') == 1


@pytest.mark.parametrize('words, read', [
    (['--strict', 'a.xyz'], ['--strict=true', 'a.xyz']), (['a.xyz', '--strict'], ['a.xyz', '--strict=true']),
    (['--strict', 'false'], ['--strict', 'false']), (['--strict=false'], ['--strict=false']),
    (['--seed', '1'], ['--seed', '1'])])
def test_a_flag_needs_no_value(words, read):
    assert _with_values(words, hydrogens) == read


@pytest.mark.parametrize('words, read', [
    (['a.sdf', 'b.sdf', '--out', 'x.html'], ['["a.sdf", "b.sdf"]', '--out', 'x.html']),
    (['--out=x.html', 'a.sdf', '--num_shown', '3', 'b "c".sdf'],
     ['["a.sdf", "b \\"c\\".sdf"]', '--out=x.html', '--num_shown', '3']),
    (['--help'], ['--help'])])
def test_words_are_a_list_where_a_list_is_wanted(words, read):
    assert _as_list(words, report) == read
    assert _as_list(words, hydrogens) == words


@pytest.mark.parametrize('name', ['generate', 'train'])
def test_a_configuration_goes_out_and_in(name, tmp_path, monkeypatch, capsys):
    """What --print_config writes says what the command would be told; --config reads it, and words after it win."""
    told: list = []
    command = import_module(f'torch_geometric_inertial.cli.{name}')
    function = getattr(command, name)

    @wraps(function)
    def listen(**arguments):
        told.append(arguments)

    monkeypatch.setattr(command, name, listen)
    changed = dict(generate=['--num-samples=7', '--properties.gap=6.5', '--groups=[amine, nitrile]', '--keep=ok'],
                   train=['--changes', '{channels: 96}', '--fit_config.num_steps=3', '--properties=[homo, gap]'])[name]
    with pytest.raises(SystemExit) as stop:
        main([name, *changed, '--print-config'])
    (tmp_path / 'own.yaml').write_text(capsys.readouterr().out)
    read = yaml.safe_load((tmp_path / 'own.yaml').read_text())
    assert stop.value.code == 0 and set(read) == set(inspect.signature(function).parameters)
    assert main([name, *changed]) == main([name, '--config', str(tmp_path / 'own.yaml')]) == 0
    assert told[0] == told[1]
    out = tmp_path / 'elsewhere'
    assert main([name, '--config', str(tmp_path / 'own.yaml'), f'--out={out}']) == 0
    assert told[2] == told[0] | dict(out=out)


@pytest.mark.parametrize('name', ['generate', 'train'])
@pytest.mark.parametrize('content, message', [
    (None, 'File does not exist: '), ('', 'Unexpected config: '), ('folder', 'Path is not a file: '),
    ('number: 3', "Option 'number' is not accepted"), ('a: [', 'Problems parsing config: '),
])
def test_a_configuration_that_cannot_be_read_is_one_line(name, content, message, tmp_path, capsys):
    path = tmp_path / 'own.yaml'
    if content == 'folder':
        path.mkdir()
    elif content is not None:
        path.write_text(content)
    assert main([name, f'--config={path}']) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'inertial {name}: ') and message in error and error.count('\n') == 1
    assert error.endswith(f'(inertial {name} --help lists the options)\n')


@pytest.mark.parametrize('words, message', [
    (['generate', '--samples=3'], 'samples=3'), (['generate', '--seed=one'], "Got value: one"),
    (['generate', '--keep'], 'argument --keep: expected one argument'), (['relax'], 'arguments are required: file'),
    (['train', '--fit_config.lr=x'], 'fit_config.lr'), (['generate', '3', '4'], '4')])
def test_words_that_cannot_be_read_are_one_line(words, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith(f'inertial {words[0]}: ') and message in error and error.count('\n') == 1


def test_a_missing_jsonargparse_is_named():
    code = "import sys; sys.modules['jsonargparse'] = None\n" \
        "from torch_geometric_inertial.cli.main import main; sys.exit(main(['view', 'x.sdf']))"
    result = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert result.returncode == 2 and "pip install 'jsonargparse[signatures]'" in result.stderr
