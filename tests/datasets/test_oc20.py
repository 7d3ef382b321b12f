import pickle
import sys
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader as TorchLoader
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_inertial.datasets import OC20, guess_tags, oc20, read_relaxations
from torch_geometric_inertial.datasets.oc20 import as_relaxation
from torch_geometric_inertial.datasets.stored_graphs import stored_fields

lmdb = pytest.importorskip('lmdb')


def official(data, number, *, labels=True):
    """The fields of an official item, of a system."""
    edges = torch.stack([torch.arange(len(data.z)), torch.arange(len(data.z)).roll(1)])
    fields = dict(atomic_numbers=data.z.float(), pos=data.pos, cell=data.cell, natoms=len(data.z), edge_index=edges,
                  cell_offsets=torch.zeros(edges.size(1), 3), tags=guess_tags(data.z, data.fixed),
                  fixed=data.fixed.float(), sid=1000 + number)
    if labels:  # energies came out of ASE, as NumPy's numbers or Python's
        fields |= dict(y_init=np.float64(data.energy_initial.item()), y_relaxed=data.energy.item(),
                       pos_relaxed=data.pos_relaxed)
    return fields


def new_generation(fields):
    return pickle.dumps(Data(**fields), protocol=-1)


def old_generation(fields):
    """PyG 1.7 kept fields, and those that it always had, as attributes."""
    class Plain:
        pass

    item = Plain()
    vars(item).update(dict.fromkeys(('x', 'edge_index', 'edge_attr', 'y', 'normal', 'face')) | fields)
    vars(item)['__num_nodes__'] = len(fields['pos'])
    Plain.__module__, Plain.__qualname__ = Data.__module__, 'Data'
    return _pickled_as_data(item)


def _pickled_as_data(item):
    """Pickle looks a class up by name before it stores the name; here it finds ours."""
    import torch_geometric.data.data as module
    kept = module.Data
    module.Data = type(item)
    try:
        return pickle.dumps(item, protocol=-1)
    finally:
        module.Data = kept


def write(path, items, length=True):
    path.parent.mkdir(parents=True, exist_ok=True)
    env = lmdb.open(str(path), subdir=False, map_size=2**28)
    with env.begin(write=True) as transaction:
        for key, item in enumerate(items):
            transaction.put(str(key).encode('ascii'), item)
        if length:
            transaction.put(b'length', pickle.dumps(len(items), protocol=-1))
    env.close()
    return path


@pytest.fixture(scope='module')
def systems(shared_data):
    return read_relaxations(shared_data / 'oc20_debug_traj' / 'oc20_30.npz')


GENERATIONS = {'old': old_generation, 'new': new_generation}


@pytest.mark.parametrize('generation', GENERATIONS)
@pytest.mark.parametrize('above', ['', 'data', 'is2res_train_val_test_lmdbs/data'])
def test_official_layout(systems, tmp_path, generation, above):
    store = GENERATIONS[generation]
    write(tmp_path / above / 'is2re/10k/train/data.lmdb', [store(official(s, i)) for i, s in enumerate(systems)])
    write(tmp_path / above / 'is2re/all/val_id/data.lmdb', [store(official(s, i)) for i, s in enumerate(systems[:4])])
    train, val = OC20(str(tmp_path), size='10k'), OC20(str(tmp_path), 'val_id', size='10k')
    assert (len(train), len(val)) == (30, 4)
    for i, (item, s) in enumerate(zip(train, systems, strict=True)):
        for name in ('z', 'pos', 'pos_relaxed', 'cell', 'fixed', 'pbc', 'energy', 'energy_initial'):
            assert torch.equal(item[name], s[name]), name
        assert item.energy.dtype == torch.float64 and item.sid.tolist() == [1000 + i]
        assert torch.equal(item.tags, guess_tags(s.z, s.fixed)) and item.edge_index is None
    train[7].validate()


def test_both_generations_are_what_they_say(systems):
    fields = official(systems[0], 0)
    with pytest.raises(RuntimeError, match='older version of PyG'):
        _ = pickle.loads(old_generation(fields)).pos
    assert torch.equal(pickle.loads(new_generation(fields)).pos, systems[0].pos)
    old, new = stored_fields(old_generation(fields)), stored_fields(new_generation(fields))
    assert old.keys() == new.keys() == fields.keys()


def test_items_without_labels(systems, tmp_path):
    path = write(tmp_path / 'data.lmdb', [new_generation(official(s, i, labels=False)) for i, s in enumerate(systems)])
    item = OC20(str(path), 'test_id')[3]
    assert 'energy' not in item and 'pos_relaxed' not in item and torch.equal(item.pos, systems[3].pos)


def test_many_files_and_no_length(systems, tmp_path):
    for part in range(3):
        write(tmp_path / f'data.{part:04d}.lmdb', [new_generation(official(s, i)) for i, s in
                                                   enumerate(systems[10 * part:10 * (part + 1)])], length=part == 1)
    dataset = OC20(str(tmp_path))
    assert len(dataset) == 30
    for i in (0, 9, 10, 19, 20, 29, -1):
        assert torch.equal(dataset[i].pos, systems[i].pos)
    assert torch.equal(dataset[12:25:6][1].pos, systems[18].pos)


def test_batches_and_workers(systems, tmp_path):
    path = write(tmp_path / 'data.lmdb', [old_generation(official(s, i)) for i, s in enumerate(systems)])
    dataset = OC20(str(path))
    here = dataset.batch(torch.tensor([4, 2]))
    assert here.cell.shape == (2, 3, 3) and here.pbc.shape == (2, 3) and here.energy.shape == (2, )
    assert torch.equal(here.pos, torch.cat([systems[4].pos, systems[2].pos]))
    assert here.ptr.tolist() == [0, len(systems[4].z), len(systems[4].z) + len(systems[2].z)]
    for batch, first in zip(DataLoader(dataset, batch_size=10, num_workers=2), (0, 10, 20), strict=True):
        assert torch.equal(batch.pos, torch.cat([s.pos for s in systems[first:first + 10]]))
    spawned = TorchLoader(dataset[:2], batch_size=None, num_workers=1, multiprocessing_context='spawn')
    assert [torch.equal(item.pos, s.pos) for item, s in zip(spawned, systems[:2], strict=True)] == [True, True]


def test_two_data_sets_of_one_file(systems, tmp_path):
    path = write(tmp_path / 'data.lmdb', [new_generation(official(s, i)) for i, s in enumerate(systems[:3])])
    first = OC20(str(path))
    second = OC20(str(path), transform=lambda data: Data(z=data.z))
    assert 'pos' in first[2] and 'pos' not in second[2]


def test_fixed_atoms_follow_from_tags_if_need_be(systems):
    fields = official(systems[0], 0)
    del fields['fixed']
    assert torch.equal(as_relaxation(fields).fixed, fields['tags'] == 0)


class Harmful:
    def __reduce__(self):
        return Path.touch, (Path(self.where), )


def harm_in_a_storage(where):
    """PyTorch reads the bytes of a tensor by unpickling them."""
    harmful = Harmful()
    harmful.where = str(where)
    inner = pickle.dumps(harmful, protocol=2)

    class Storage:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner, )

    return pickle.dumps(Storage())


def test_nothing_in_a_pickle_runs(tmp_path):
    touched = tmp_path / 'touched'
    harmful = Harmful()
    harmful.where = str(touched)
    with pytest.raises(ValueError, match=r"may hold tensors and numbers alone \(got '.*', which a pickle could run\)"):
        stored_fields(pickle.dumps(Data(x=harmful)))
    with pytest.raises(ValueError, match='damaged, or no pickle of a Data'):
        stored_fields(harm_in_a_storage(touched))
    assert not touched.exists()
    pickle.loads(pickle.dumps(harmful))
    assert touched.exists()  # it would have


Named = namedtuple('Named', 'value')


@pytest.mark.parametrize('item, message', [
    (b'no pickle', 'damaged, or no pickle of a Data'),
    (b'', 'damaged, or no pickle of a Data'),
    (pickle.dumps({'pos': 1}), r'must be a pickled Data of PyG \(got dict\)'),
    (pickle.dumps(Named(3)), 'may hold tensors and numbers alone'),
], ids=range(4))
def test_items_that_are_none(item, message):
    with pytest.raises(ValueError, match=message):
        stored_fields(item)


def test_damaged_and_missing_items(systems, tmp_path):
    good = new_generation(official(systems[0], 0))
    lacking = new_generation({k: v for k, v in official(systems[0], 0).items() if k != 'cell'})
    short = new_generation(official(systems[0], 0) | dict(pos=systems[0].pos[1:]))
    path = write(tmp_path / 'data.lmdb', [good, good[:-40], lacking, short])
    env = lmdb.open(str(path), subdir=False)
    with env.begin(write=True) as transaction:
        transaction.put(b'length', pickle.dumps(6))
    env.close()
    dataset = OC20(str(path))
    assert len(dataset) == 6 and len(dataset[0].z) == len(systems[0].z)
    for i, message in ((1, 'system 1 of .*damaged'), (2, r"system 2 of .*must have 'atomic_numbers', .* 'cell'"),
                       (3, 'must have a row an atom, and one cell'), (5, 'must hold 6 systems, but lacks number 5')):
        with pytest.raises(ValueError, match=message):
            dataset[i]


@pytest.mark.parametrize('arguments, message', [
    (dict(split='valid'), r"'split' must be one of train, .* \(got 'valid'\)"),
    (dict(size='1k'), r"'size' must be one of all, 100k, 10k \(got '1k'\)"),
    (dict(size='10k'), r"'root' must hold is2re/10k/train/data.lmdb, from https://dl.fbaipublicfiles.com/.*tar.gz"),
    (dict(split='val_id', size='10k'), "'root' must hold is2re/all/val_id/data.lmdb"),
])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        OC20(str(tmp_path), **arguments)


def test_without_lmdb(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'lmdb', None)
    with pytest.raises(ImportError, match='reading OC20 needs lmdb: pip install lmdb'):
        OC20(str(tmp_path))


def test_a_file_that_is_no_lmdb_is_named(tmp_path):
    (tmp_path / 'data.lmdb').write_bytes(b'<html>404</html>' * 1000)
    with pytest.raises(ValueError, match=r"data.lmdb' is truncated, damaged or no LMDB file \("):
        OC20(str(tmp_path))


@pytest.mark.parametrize('field, value', [('pos', [[1.0, 2.0]]), ('atomic_numbers', 'six'), ('cell', {}),
                                          ('y_relaxed', 'low'), ('tags', object)])
def test_a_broken_record_is_an_error_that_names_it(systems, tmp_path, monkeypatch, field, value):
    write(tmp_path / 'data.lmdb', [new_generation(official(systems[0], 0))])
    whole = oc20.stored_fields
    monkeypatch.setattr(oc20, 'stored_fields', lambda stored: whole(stored) | {field: value})
    with pytest.raises(ValueError, match=r"system 0 of '.*data.lmdb': "):
        OC20(str(tmp_path))[0]
