import importlib.util
import json
import pickle
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from torch_geometric.data import Data

from torch_geometric_inertial.datasets import guess_tags, read_relaxations

EXAMPLE = Path(__file__).parents[2] / 'examples' / 'oc20_is2re.py'


@pytest.fixture
def archive(shared_data, tmp_path):
    """The six smallest of the real relaxations."""
    with np.load(shared_data / 'oc20_debug_traj' / 'oc20_30.npz') as file:
        arrays = dict(file)
    ptr = arrays['ptr']
    chosen = np.argsort(np.diff(ptr))[:6]
    atoms = np.concatenate([np.arange(ptr[i], ptr[i + 1]) for i in chosen])
    sizes = np.diff(ptr)[chosen]
    small = {name: x[atoms] if len(x) == ptr[-1] else x[chosen] for name, x in arrays.items() if name != 'ptr'}
    np.savez(tmp_path / 'small.npz', ptr=np.concatenate([[0], np.cumsum(sizes)]), **small)
    return tmp_path / 'small.npz'


@pytest.fixture
def official(archive, tmp_path):
    """The same in the official layout, in each of the splits."""
    lmdb = pytest.importorskip('lmdb')
    items = [Data(atomic_numbers=s.z.float(), pos=s.pos, pos_relaxed=s.pos_relaxed, cell=s.cell, natoms=s.num_nodes,
                  tags=guess_tags(s.z, s.fixed), fixed=s.fixed.float(), sid=i, y_init=0.0,
                  y_relaxed=float(s.energy - s.energy_initial)) for i, s in enumerate(read_relaxations(archive))]
    for part in ('10k/train', 'all/val_id', 'all/val_ood_ads', 'all/val_ood_cat', 'all/val_ood_both'):
        folder = tmp_path / 'lmdb' / 'data' / 'is2re' / part
        folder.mkdir(parents=True)
        env = lmdb.open(str(folder / 'data.lmdb'), subdir=False, map_size=2**26)
        with env.begin(write=True) as transaction:
            for i, item in enumerate(items):
                transaction.put(str(i).encode('ascii'), pickle.dumps(item, protocol=-1))
            transaction.put(b'length', pickle.dumps(len(items)))
        env.close()
    return tmp_path / 'lmdb'


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location('oc20_example', EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def run(*arguments, fit=()):
        monkeypatch.setattr(sys, 'argv', [str(EXAMPLE), '--out', str(tmp_path / 'out'), *map(str, arguments), '--fit',
                                          'batch_size=2', *fit])
        module.main()
        return capsys.readouterr().out
    return run


@pytest.mark.parametrize('task', ['is2re', 'is2rs'])
def test_from_trajectories(run, archive, task, tmp_path):
    out = run('--files', archive, '--task', task, fit=['num_steps=30', 'evaluate_every=15'])
    assert 'training, 5 systems' in out and 'held out, 1 systems' in out
    mean, trained = (float(x) for x in re.findall(r'energy MAE ([\d.]+)' if task == 'is2re' else
                                                  r'mean distance ([\d.]+)', out)[:2])
    assert trained < mean  # on what it was trained on
    assert ('energy MAE' in out) == (task == 'is2re') and out.count('ADwT') == 4
    facts = json.loads((tmp_path / 'out' / 'model' / 'config.json').read_text())
    assert facts['task'] == task and 0 <= facts['validation']['val_adwt'] <= 1


def test_from_official_files(run, official, tmp_path):
    out = run('--root', official, '--size', '10k', '--model', 'small', '--num-validation', 2, fit=['num_steps=4'])
    for split in ('val_id', 'val_ood_ads', 'val_ood_cat', 'val_ood_both'):
        assert f'{split}, 2 systems' in out
    assert out.count('energy MAE') == out.count('ADwT') == 8


def test_too_few_systems(run, shared_data, tmp_path):
    with np.load(shared_data / 'oc20_debug_traj' / 'oc20_30.npz') as file:
        arrays = {name: x[:1] if len(x) == 30 else x[:33] for name, x in dict(file).items()} | dict(ptr=[0, 33])
    np.savez(tmp_path / 'one.npz', **arrays)
    with pytest.raises(SystemExit, match=r'at least 5 relaxations are needed, .* \(got 1\)'):
        run('--files', tmp_path / 'one.npz')
