import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SETUP = Path(__file__).parents[1] / 'setup.py'


@pytest.mark.parametrize('forced, message', [
    ('yes', "FORCE_CUDA must be 0 or 1 (got 'yes')"),
    pytest.param('1', 'FORCE_CUDA=1 needs a CUDA build of torch', marks=pytest.mark.skipif(
        torch.version.cuda is not None, reason='torch is a CUDA build')),
])
def test_refuses_a_build_that_cannot_be(forced, message, tmp_path):
    done = subprocess.run([sys.executable, str(SETUP), '--version'], capture_output=True, text=True, cwd=SETUP.parent,
                          env={**os.environ, 'FORCE_CUDA': forced})
    assert done.returncode != 0 and message in done.stderr


@pytest.mark.parametrize('has_nvcc', [False, True])
def test_a_cuda_folder_without_nvcc_is_not_enough(has_nvcc, tmp_path):
    if has_nvcc:
        (tmp_path / 'bin').mkdir()
        (tmp_path / 'bin' / 'nvcc').touch(0o755)
    pretend = (f'import runpy, sys, torch, torch.utils.cpp_extension as e; torch.version.cuda = "13.0"; '
               f'e.CUDA_HOME = {str(tmp_path)!r}; sys.argv = ["setup.py", "--version"]; '
               f'print(runpy.run_path({str(SETUP)!r})["with_cuda"]())')
    done = subprocess.run([sys.executable, '-c', pretend], capture_output=True, text=True, cwd=SETUP.parent,
                          env={k: v for k, v in os.environ.items() if k != 'FORCE_CUDA'})
    assert done.stdout.strip().endswith(str(has_nvcc)), done.stderr


#: Module -> distribution, where the names differ.
DISTRIBUTIONS = dict(PIL='pillow', torch_geometric='torch-geometric', yaml='pyyaml')


def extra(project, name):
    """The distributions of an extra, with those of the extras that it names."""
    found = set()
    for requirement in project['optional-dependencies'][name]:
        own = re.fullmatch(r'torch_geometric_inertial\[(.+)\]', requirement)
        if own:
            found |= set().union(*(extra(project, other) for other in own[1].split(',')))
        else:
            found.add(re.split(r'[\[<>=]', requirement)[0])
    return found


@pytest.mark.parametrize('folder, name', [('torch_geometric_inertial', 'all'), ('examples', 'examples')])
def test_an_extra_brings_all_that_is_imported(folder, name):
    tomllib = pytest.importorskip('tomllib')
    project = tomllib.loads((SETUP.parent / 'pyproject.toml').read_text())['project']
    brought = extra(project, name) | {re.split(r'[\[<>=; ]', text)[0] for text in project['dependencies']}
    imported = set()
    for path in (SETUP.parent / folder).rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                imported.add(node.module.split('.')[0])
    imported -= set(sys.stdlib_module_names) | {'torch_geometric_inertial', 'torch_scatter'}  # 'scatter' must be built
    assert {DISTRIBUTIONS.get(module, module) for module in imported} <= brought
