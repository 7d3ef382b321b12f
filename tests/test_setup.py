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
