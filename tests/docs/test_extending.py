"""The changes that docs/extending.md shows can be made, and do what the page says."""
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('ase')
pytest.importorskip('rdkit')
pytestmark = pytest.mark.skipif(shutil.which('git') is None, reason='needs git')

ROOT = Path(__file__).parents[2]
PAGE, DIFFS = ROOT / 'docs' / 'extending.md', ROOT / 'docs' / 'extending'
NUM_FILES = {'protocol': 2, 'data_set': 3, 'generator': 4, 'operator': 8}


def apply(name, folder, *options):
    return run(folder, 'git', 'apply', *options, str(DIFFS / f'{name}.diff'))


def run(folder, *command):
    own = dict(PYTHONPATH=str(folder), OMP_NUM_THREADS='1', GIT_CEILING_DIRECTORIES=str(folder.parent))
    return subprocess.run(command, cwd=folder, env=os.environ | own, check=False, capture_output=True, text=True)


@pytest.mark.parametrize('name', NUM_FILES)
def test_a_diff_touches_as_many_files_as_the_page_says_and_applies(name):
    files = re.findall(r'^diff --git a/(\S+)', (DIFFS / f'{name}.diff').read_text(encoding='utf-8'), re.MULTILINE)
    assert len(files) == NUM_FILES[name]
    assert f'[{name}.diff](extending/{name}.diff), {len(files)} files' in PAGE.read_text(encoding='utf-8')
    done = apply(name, ROOT, '--check')
    assert done.returncode == 0, f'docs/extending/{name}.diff must be made anew: {done.stderr}'


def test_what_needs_no_compiler_works(tmp_path):
    """In a copy of the package, with the tests that the diffs bring."""
    shutil.copytree(ROOT / 'torch_geometric_inertial', tmp_path / 'torch_geometric_inertial',
                    ignore=shutil.ignore_patterns('__pycache__', 'weights'))
    shutil.copytree(ROOT / 'tests' / 'helpers', tmp_path / 'tests' / 'helpers')
    shutil.copy(ROOT / 'pyproject.toml', tmp_path)
    for name in ('protocol', 'data_set', 'generator'):
        done = apply(name, tmp_path)
        assert done.returncode == 0, done.stderr
    done = run(tmp_path, sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'tests')
    assert done.returncode == 0 and '8 passed' in done.stdout, done.stdout[-3000:]
