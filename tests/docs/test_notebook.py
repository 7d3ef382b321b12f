"""The tour is executed, as a reader would."""
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip('nbmake')
pytest.importorskip('ase')
pytest.importorskip('rdkit')

TOUR = Path(__file__).parents[2] / 'docs' / 'tour.ipynb'


def test_the_tour_runs(tmp_path):
    shutil.copy(TOUR, tmp_path)
    run = subprocess.run([sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', '--nbmake', 'tour.ipynb'],
                         cwd=tmp_path, env=os.environ | {'OMP_NUM_THREADS': '1', 'IPYTHONDIR': str(tmp_path)},
                         capture_output=True, text=True, check=False, timeout=600)
    assert run.returncode == 0 and '1 passed' in run.stdout, run.stdout[-3000:]


def test_the_tour_is_stored_without_outputs_and_its_links_lead_somewhere():
    cells = json.loads(TOUR.read_text(encoding='utf-8'))['cells']
    code = [cell for cell in cells if cell['cell_type'] == 'code']
    assert len(code) > 5
    for link in re.findall(r'\]\(([^)#]+)\)', ''.join(''.join(cell['source']) for cell in cells)):
        assert '://' in link or (TOUR.parent / link).exists(), link
    assert all(cell['outputs'] == [] and cell['execution_count'] is None for cell in code)
