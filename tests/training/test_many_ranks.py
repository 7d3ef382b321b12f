r"""Laws of many processes: their steps, their log, how they end."""
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from helpers.rank_cases import CASES, train

from torch_geometric_inertial.training import AtomBatches, load_checkpoint

SCRIPT = Path(__file__).parents[1] / 'helpers' / 'rank_cases.py'


def start(*command, size=2):
    """Processes of one group, without a launcher that would look after them."""
    with socket.socket() as sock:
        sock.bind(('127.0.0.1', 0))
        port = str(sock.getsockname()[1])
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, (root, os.environ.get('PYTHONPATH'))))
    return [subprocess.Popen([sys.executable, *map(str, command)], text=True, stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE,
                             env=os.environ | dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(size),
                                                   MASTER_ADDR='127.0.0.1', MASTER_PORT=port, OMP_NUM_THREADS='1',
                                                   PYTHONPATH=path, CUDA_VISIBLE_DEVICES=''))
            for rank in range(size)]


def finish(processes, timeout=300):
    said = [process.communicate(timeout=timeout) for process in processes]
    return [process.returncode for process in processes], '\n'.join(err for _, err in said)


@pytest.fixture(scope='module')
def two(tmp_path_factory):
    folder = tmp_path_factory.mktemp('two')
    codes, said = finish(start(SCRIPT, folder))
    assert codes == [0, 0], said
    return folder


def log_of(folder):
    return [{k: v for k, v in json.loads(line).items() if k != 'seconds'}
            for line in (folder / 'log.jsonl').read_text().splitlines()]


@pytest.mark.parametrize('batches, change', [('molecules', {}), ('atoms', dict(batch_atoms=25))])
@pytest.mark.parametrize('case', list(CASES))
def test_two_processes_take_the_steps_of_one(two, tmp_path, case, batches, change):
    weights = train(case, tmp_path, **change)
    state = load_checkpoint(two / batches / case)
    names = [name for name in state['ema'] if name.startswith('module.')]
    theirs = torch.cat([state['ema'][name].flatten().double() for name in names])
    one = load_checkpoint(tmp_path / case)
    ours = torch.cat([one['ema'][name].flatten().double() for name in names])
    assert weights.dtype == torch.float64
    torch.testing.assert_close(theirs, ours, atol=1e-6, rtol=1e-6)
    assert len(log_of(tmp_path / case)) == 2
    for a, b in zip(log_of(two / batches / case), log_of(tmp_path / case), strict=True):
        assert a == pytest.approx(b, rel=1e-6)
    assert state['molecules_seen'] == one['molecules_seen'] > 0


def test_another_number_of_processes_is_refused_with_an_explanation(two):
    folder, case = two / 'molecules', 'PaiNN-forces'
    message = (r'holds a training with processes = 2 \(got 1\): its noise is drawn per process, .*; start as many as '
               r"before, or give 'allow_reshard'")
    with pytest.raises(ValueError, match=message):
        train(case, folder, num_steps=6)
    train(case, folder, num_steps=6, allow_reshard=True)
    assert load_checkpoint(folder / case)['step'] == 6


def test_all_processes_are_told_why(tmp_path):
    train('PaiNN-forces', tmp_path, num_steps=1)
    code = f"""
import sys
from pathlib import Path
sys.path.insert(0, {str(SCRIPT.parent)!r})
from rank_cases import train
train('PaiNN-forces', Path({str(tmp_path)!r}), num_steps=2)
"""
    processes = start('-c', code)
    said = [process.communicate(timeout=300)[1] for process in processes]
    for text in said:
        assert 'holds a training with processes = 1 (got 2)' in text


KILLED = '''
import os, signal, sys
from pathlib import Path
import torch
sys.path.insert(0, {tests!r})
from rank_cases import CASES, molecules
from torch_geometric_inertial.training import FitConfig, fit
torch.manual_seed(0)
calls = []

def augment(batch, generator):
    calls.append(1)
    if len(calls) == 7 and os.environ['RANK'] == '1':
        os.kill(os.getpid(), signal.SIGKILL)
    return batch

data = molecules()
fit(CASES['PaiNN-forces'](data).double(), data, sys.argv[1], FitConfig(num_steps=10_000, batch_size=6, save_every=3),
    augment=augment)
'''


@pytest.mark.slow
@pytest.mark.parametrize('launcher', [True, False])
def test_a_killed_process_ends_the_job_and_leaves_a_checkpoint(tmp_path, launcher):
    script = tmp_path / 'killed.py'
    script.write_text(KILLED.format(tests=str(SCRIPT.parent)))
    begun = time.monotonic()
    if launcher:
        done = subprocess.run([sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc_per_node=2',
                               script, tmp_path / 'run'], capture_output=True, text=True, timeout=300,
                              env=os.environ | dict(OMP_NUM_THREADS='1'))
        assert done.returncode != 0 and 'Signal 9 (SIGKILL)' in done.stderr, done.stderr
    else:
        processes = start(script, tmp_path / 'run')
        processes[1].wait(timeout=240)
        begun = time.monotonic()
        codes, said = finish(processes, timeout=60)
        assert codes[0] not in (0, None) and codes[1] == -signal.SIGKILL
        assert 'Connection closed by peer' in said or 'Connection reset by peer' in said, said
    assert time.monotonic() - begun < (240 if launcher else 60)
    assert load_checkpoint(tmp_path / 'run')['step'] == 6


# Batches by atoms ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize('num_parts', [1, 2, 5])
def test_batches_by_atoms_have_a_budget_and_a_part_for_each_process(num_parts):
    sizes = torch.randint(1, 20, (200, ), generator=torch.Generator().manual_seed(1))
    batches = AtomBatches(sizes, 100, seed=3, num_parts=num_parts)
    for step in range(150):
        index = batches(step)
        parts = batches.parts(index, num_parts)
        assert int(sizes[index].sum()) <= 100
        assert len(parts) == num_parts and min(part.numel() for part in parts) >= 1
        assert sorted(torch.cat(parts).tolist()) == sorted(index.tolist())
        loads = [int(sizes[part].sum()) for part in parts]
        assert max(loads) - min(loads) < 20


def test_an_epoch_of_batches_by_atoms_sees_each_molecule_at_most_once():
    sizes = torch.randint(1, 20, (200, ), generator=torch.Generator().manual_seed(1))
    batches = AtomBatches(sizes, 100, seed=3)
    seen, epochs, step = [], 0, 0
    while epochs < 3:
        index = batches(step).tolist()
        if set(index) & set(seen):
            assert len(seen) == len(set(seen)) and sizes[seen].sum() > sizes.sum() - 120  # the rest is left out
            seen, epochs = [], epochs + 1
        seen += index
        step += 1


def test_a_step_of_batches_by_atoms_depends_on_seed_and_step_alone():
    sizes = torch.randint(1, 20, (50, ), generator=torch.Generator().manual_seed(1))
    one, other = AtomBatches(sizes, 60, seed=3), AtomBatches(sizes, 60, seed=4)
    later = [one(step).tolist() for step in range(40)]
    assert [AtomBatches(sizes, 60, seed=3)(step).tolist() for step in reversed(range(40))] == later[::-1]
    assert other(0).tolist() != later[0]


def test_a_budget_that_holds_all_molecules():
    batches = AtomBatches(torch.tensor([2, 3, 4]), 100)
    assert sorted(batches(0).tolist()) == sorted(batches(5).tolist()) == [0, 1, 2]


@pytest.mark.parametrize('arguments, message', [
    ((torch.tensor([3, 9]), 8), r"'max_atoms' must be at least 1 parts \* 9 atoms of the largest molecule \(got 8\)"),
    ((torch.tensor([3]), 80, 0, 2), r"'sizes' must hold a molecule for each of 2 parts \(got 1\)"),
])
def test_errors_of_batches_by_atoms(arguments, message):
    with pytest.raises(ValueError, match=message):
        AtomBatches(*arguments)
