import os
import re
import subprocess
import sys
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'likelihood.py'


def run(*arguments):
    return subprocess.run([sys.executable, str(EXAMPLE), *map(str, arguments)], capture_output=True, text=True,
                          env=os.environ | {'OMP_NUM_THREADS': '1'}, timeout=600)


def test_distorted_molecules_rank_below_relaxed_ones():
    done = run('--num', 8, '--num-steps', 2, '--noise', 0.02, 0.1)
    assert done.returncode == 0, done.stderr
    rows = re.findall(r'^(0\.\d+) +(-?\d+\.\d+) +(\d\.\d+) +(\d+)%', done.stdout, re.MULTILINE)
    assert [float(row[0]) for row in rows] == [0.02, 0.1]
    assert all(float(auc) > 0.9 and int(wins) > 85 for _, _, auc, wins in rows)


def test_help():
    assert '--weights' in run('--help').stdout
