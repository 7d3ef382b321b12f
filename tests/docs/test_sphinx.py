"""The pages and the reference are built without a warning."""
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('furo')
pytest.importorskip('myst_parser')

DOCS = Path(__file__).parents[2] / 'docs'


def test_the_documentation_is_built_without_a_warning(tmp_path):
    run = subprocess.run([sys.executable, '-m', 'sphinx', '-q', '-W', '--keep-going', '-b', 'html', DOCS, tmp_path],
                         capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    reference = (tmp_path / 'api' / 'models.html').read_text(encoding='utf-8')
    assert 'InertialAR' in reference and 'add_hydrogens' in reference
    tour = (tmp_path / 'tour.html').read_text(encoding='utf-8')
    assert '<h1>Tour' in tour and 'QM9Sample' in tour and 'cell_type' not in tour
