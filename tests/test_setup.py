import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SETUP = Path(__file__).parents[1] / 'setup.py'


@pytest.mark.parametrize('wish, message', [
    ('yes', "FORCE_CUDA must be 0 or 1 (got 'yes')"),
    pytest.param('1', 'FORCE_CUDA=1 needs a CUDA build of torch', marks=pytest.mark.skipif(
        torch.version.cuda is not None, reason='torch is a CUDA build')),
])
def test_refuses_a_build_that_cannot_be(wish, message, tmp_path):
    done = subprocess.run([sys.executable, str(SETUP), '--version'], capture_output=True, text=True, cwd=SETUP.parent,
                          env={**os.environ, 'FORCE_CUDA': wish})
    assert done.returncode != 0 and message in done.stderr
