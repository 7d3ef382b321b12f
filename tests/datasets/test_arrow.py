import json
import pickle
import resource
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch_geometric.data import Data
from torch_geometric.loader import DataLoader

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.datasets import ArrowMolecules, QM9Sample
from torch_geometric_inertial.files import locked_folder
from torch_geometric_inertial.models import TrainingDomain
from torch_geometric_inertial.nn import atom_types_of
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit
from torch_geometric_inertial.training.batches import MoleculeBatches
from torch_geometric_inertial.transforms import FunctionalGroups, canonical

pytest.importorskip('pyarrow')

torch.set_num_threads(1)
NAMES = ['homo', 'gap']


@pytest.fixture(scope='module')
def molecules():
    groups = FunctionalGroups()
    items = [groups(canonical()(data)) for data in QM9Sample()[:60]]
    for i, data in enumerate(items):
        data.identifier = f'gdb {i}'
        data.properties = torch.stack([data[name] for name in NAMES], dim=1).double()
    return items


@pytest.fixture(scope='module')
def store(molecules, tmp_path_factory):
    folder = tmp_path_factory.mktemp('stores') / 'store'
    ArrowMolecules.write(molecules, folder, groups=FunctionalGroups().names, properties=NAMES,
                         units=dict(homo='eV', gap='eV'), shard_molecules=17)
    return folder


def own_store(tmp_path, num=12, **kwargs):
    ArrowMolecules.write(QM9Sample()[:num], tmp_path / 'own', **dict(dict(shard_molecules=5), **kwargs))
    return tmp_path / 'own'


def change_manifest(folder, **changes):
    path = folder / 'manifest.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def directed(data):
    return sorted(zip(*data.edge_index.tolist(), data.edge_attr.tolist(), strict=True))


def test_items_come_back(molecules, store):
    data = ArrowMolecules(store)
    assert len(data) == 60 and len(list(data)) == 60
    assert data.columns.properties == ('homo', 'gap') and data.columns.units == dict(homo='eV', gap='eV')
    assert data.columns.groups == tuple(FunctionalGroups().names)
    for given_item, item in zip(molecules, data, strict=True):
        for name in ('z', 'pos', 'formal_charge', 'groups'):
            assert torch.equal(item[name], given_item[name]) and item[name].dtype == given_item[name].dtype
        torch.testing.assert_close(item.properties, given_item.properties, rtol=0, atol=0, equal_nan=True)
        assert directed(item) == directed(given_item) and item.identifier == given_item.identifier


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(-60, 59), min_size=1, max_size=40))
def test_a_batch_is_that_of_packed_molecules(molecules, store, index):
    ours, theirs = (data.batch(torch.tensor([i % 60 for i in index]) if data is not None else None)
                    for data in (ArrowMolecules(store), PackedMolecules.from_dataset(molecules)))
    assert set(ours.keys()) == set(theirs.keys())
    for name, value in theirs.items():
        torch.testing.assert_close(ours[name], value, rtol=0, atol=0, equal_nan=True)
    again = ArrowMolecules(store).batch(torch.tensor(index))
    assert torch.equal(again.z, ours.z) and torch.equal(again.pos, ours.pos)


@pytest.mark.parametrize('part', [slice(5, 50, 3), torch.tensor([50, 2, 2, 31]), torch.arange(60) % 7 == 0,
                                  slice(40, None)], ids=str)
def test_a_part_is_a_data_set(molecules, store, part):
    data, whole = ArrowMolecules(store)[part], list(range(60))
    chosen = torch.tensor(whole)[part].tolist()
    assert len(data) == len(chosen)
    assert [item.identifier for item in data] == [f'gdb {i}' for i in chosen]
    batch = data.batch(torch.arange(len(data)))
    assert torch.equal(batch.pos, torch.cat([molecules[i].pos for i in chosen]))
    assert torch.equal(data.ptr, batch.ptr)
    assert data[1:].batch(torch.tensor([0])).pos.equal(molecules[chosen[1]].pos)


@pytest.mark.parametrize('index', [[60], [0, -61], []])
def test_a_molecule_that_is_not_there_is_an_error(store, index):
    with pytest.raises(IndexError, match=r"'index' must be numbers \[B\] of the 60 molecules"):
        ArrowMolecules(store).batch(torch.tensor(index, dtype=torch.long))


def test_a_transform_is_applied_to_items_and_batches(store):
    def tag(data):
        data.tag = torch.tensor([data.z.numel()])
        return data
    data = ArrowMolecules(store, tag)
    assert int(data[3].tag) == data[3].z.numel()
    assert data.batch(torch.tensor([3, 5])).tag.tolist() == [data[3].z.numel(), data[5].z.numel()]


def test_the_order_of_an_epoch_goes_block_by_block(store):
    data = ArrowMolecules(store, block_size=4)[:59]
    order = data.shuffled(torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(59)) and order.tolist() != sorted(order.tolist())
    assert order.equal(data.shuffled(torch.Generator().manual_seed(0)))
    assert not order.equal(data.shuffled(torch.Generator().manual_seed(1)))


def test_few_blocks_are_open_at_a_time(store, monkeypatch):
    monkeypatch.setattr('torch_geometric_inertial.datasets.arrow.WINDOW', 3)
    order = ArrowMolecules(store, block_size=4).shuffled(torch.Generator().manual_seed(0))
    for window in order.split(12):
        assert (window // 4).unique().numel() == 3
    assert any(window.tolist() != sorted(window.tolist()) for window in order.split(12))


def test_steps_follow_the_order_of_the_store(store):
    data = ArrowMolecules(store, block_size=4)
    batches = MoleculeBatches(60, 20, seed=3, shuffle=data.shuffled)
    epoch = torch.cat([batches(step) for step in range(3)])
    assert sorted(epoch.tolist()) == list(range(60))
    assert not epoch.equal(torch.cat([batches(step) for step in range(3, 6)]))


@pytest.mark.parametrize('method', ['fork', 'spawn'])
def test_workers_read_it(molecules, store, method):
    data = ArrowMolecules(store)
    data.batch(torch.arange(60))
    order = data.shuffled(torch.Generator().manual_seed(0)).tolist()
    loader = DataLoader(data, batch_size=7, sampler=order, num_workers=2, multiprocessing_context=method)
    pos = torch.cat([batch.pos for batch in loader])
    assert pos.equal(torch.cat([molecules[i].pos for i in order]))


def test_a_pickle_holds_no_molecules(store):
    data = ArrowMolecules(store)[10:20]
    data.batch(torch.arange(10))
    text = pickle.dumps(data)
    assert len(text) < 10_000
    assert pickle.loads(text).batch(torch.arange(10)).pos.equal(data.batch(torch.arange(10)).pos)


def test_what_is_read_can_be_written_to(store):
    data = ArrowMolecules(store)
    before = data[0].pos.clone()
    data[0].pos.zero_()
    data.batch(torch.tensor([0])).pos.zero_()
    assert data[0].pos.equal(before)
    data.verify()


def test_domain_and_digest_tell_of_the_content(molecules, store, tmp_path):
    data = ArrowMolecules(store)
    whole = TrainingDomain.of_training_set(PackedMolecules.from_dataset(molecules))
    ours = TrainingDomain.of_training_set(data)
    assert (ours.num_atoms, ours.elements, ours.num_heavy_atoms) == (
        whole.num_atoms, whole.elements, whole.num_heavy_atoms)
    digests = {part.digest() for part in (data, data[:30], data[30:], ArrowMolecules(store, block_size=9),
                                          ArrowMolecules(own_store(tmp_path)))}
    assert len(digests) == 5 and ArrowMolecules(store).digest() == data.digest()


def test_a_training_from_a_store_is_that_from_memory(molecules, store, tmp_path):
    class InMemory(PackedMolecules):
        shuffled = property(lambda self: ArrowMolecules(store).shuffled)

    config, weights = FitConfig(num_steps=4, batch_size=20, log_every=1), []
    data = ArrowMolecules(store)
    for name, training_set in (('memory', InMemory.from_dataset(molecules)), ('store', data)):
        torch.manual_seed(0)
        model = InertialAR(channels=32, heads=2, graph_layers=1, place_layers=1, head_channels=24, head_layers=2,
                           message_channels=16, num_groups=20, properties=tuple(NAMES),
                           atom_types=atom_types_of(data.batch(torch.arange(60))))
        model.fit_properties(data.batch(torch.arange(60)).properties)
        trained = fit(model, training_set, tmp_path / name, config, augment=RandomPose(180.0))
        weights.append(torch.cat([p.flatten() for p in trained.parameters()]))
        assert trained.training_domain.num_heavy_atoms == (1, 6)
    assert torch.equal(*weights)
    with pytest.raises(ValueError, match=r'holds a training with .*data = .* choose another folder'):
        fit(model, data[:40], tmp_path / 'store', config, augment=RandomPose(180.0))


def test_without_bonds(tmp_path):
    bare = [Data(z=data.z, pos=data.pos) for data in QM9Sample()[:4]]
    data = ArrowMolecules.write(bare, tmp_path / 'bare', bonds=False)
    assert set(data[0].keys()) == {'z', 'pos', 'identifier'} and data[0].identifier == ''
    assert set(data.batch(torch.arange(4)).keys()) == {'z', 'pos', 'ptr'}


def test_large_molecules_and_lone_hydrogens(tmp_path):
    grid = torch.cartesian_prod(*[1.5 * torch.arange(10.0)] * 3)
    chain = torch.stack([torch.arange(999), torch.arange(1, 1000)])
    large = Data(z=torch.full((1000,), 6), pos=grid, edge_index=torch.cat([chain, chain.flip(0)], dim=1),
                 edge_attr=torch.ones(1998).long())
    hydrogen = Data(z=torch.tensor([1, 1]), pos=torch.tensor([[0.0, 0, 0], [0.74, 0, 0]]),
                    edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.tensor([1, 1]))
    proton = Data(z=torch.tensor([1]), pos=torch.zeros(1, 3), edge_index=torch.zeros(2, 0).long(),
                  edge_attr=torch.zeros(0).long(), formal_charge=torch.tensor([1]))
    data = ArrowMolecules.write([large, hydrogen, proton], tmp_path / 'odd')
    assert data.domain == dict(num_atoms=(1, 1000), num_heavy_atoms=(0, 1000), elements=(1, 6))
    batch = data.batch(torch.tensor([2, 0, 1]))
    assert batch.ptr.tolist() == [0, 1, 1001, 1003] and batch.formal_charge[0] == 1
    assert directed(data[0]) == directed(large) and batch.edge_index.max() == 1002


@pytest.mark.parametrize('change, message', [
    (dict(z=torch.tensor([6, 0])), r"molecule 1: data has no element at atom 1: 'z' must be in 1..118 \(got 0\)"),
    (dict(pos=torch.full((2, 3), torch.nan)), 'molecule 1: data has a position that is not finite, at atom 0'),
    (dict(edge_index=None), "molecule 1: data needs bonds in 'edge_index'"),
    (dict(edge_attr=None), "molecule 1: data needs bond orders in 'edge_attr'"),
    (dict(edge_attr=torch.tensor([7, 7])), "molecule 1: data needs bond orders 1, 2, 3"),
    (dict(groups=torch.tensor([[2, 0]])), r"molecule 1: 'groups' must be 0 or 1, \[1, 2\] \(got \[1, 2\]\)"),
    (dict(groups=None), r"molecule 1: 'groups' must be 0 or 1, \[1, 2\] \(got NoneType\)"),
    (dict(gap='wide'), r"molecule 1: 'gap' must be a number \(got 'wide'\)"),
    (dict(gap=torch.tensor([torch.inf])), "molecule 1: 'gap' must be finite, or NaN where not known"),
    (dict(properties=torch.zeros(1, 3)), r"molecule 1: 'properties' must be \[1, 1\] \(got \[1, 3\]\)"),
    (dict(z=torch.full((2**15,), 6), pos=torch.rand(2**15, 3)), 'molecule 1: data must have at most 32767 atoms'),
], ids=lambda value: str(value)[:40])
def test_a_malformed_molecule_is_named_and_leaves_no_store(tmp_path, change, message):
    good = Data(z=torch.tensor([6, 8]), pos=torch.tensor([[0.0, 0, 0], [1.1, 0, 0]]), groups=torch.tensor([[1, 0]]),
                edge_index=torch.tensor([[0, 1], [1, 0]]), edge_attr=torch.tensor([3, 3]), gap=torch.tensor([0.1]))
    bad = good.clone()
    for name, value in change.items():
        bad[name] = value
    with pytest.raises(ValueError, match=message):
        ArrowMolecules.write([good, bad], tmp_path / 'bad', groups=['a', 'b'], properties=['gap'], shard_molecules=1)
    assert [path.name for path in (tmp_path / 'bad').iterdir()] == ['.lock']
    with pytest.raises(FileNotFoundError, match=r"'.*bad' holds no store of molecules, or an unfinished one"):
        ArrowMolecules(tmp_path / 'bad')


@pytest.mark.parametrize('kwargs, message', [
    (dict(properties=['gap', 'gap']), r"'properties' must be different names \(got \('gap', 'gap'\)\)"),
    (dict(units=dict(gap='eV')), r"'units' must be of properties \(there are none; got gap\)"),
    (dict(shard_molecules=0), r"'shard_molecules' must be at least 1 \(got 0\)"),
])
def test_bad_arguments(tmp_path, kwargs, message):
    with pytest.raises(ValueError, match=message):
        ArrowMolecules.write(QM9Sample()[:2], tmp_path, **kwargs)


def test_blocks_hold_a_molecule(store):
    with pytest.raises(ValueError, match=r"'block_size' must be at least 1 \(got 0\)"):
        ArrowMolecules(store, block_size=0)


def test_an_empty_store_is_none(tmp_path):
    with pytest.raises(ValueError, match="a store must hold at least one molecule"):
        ArrowMolecules.write([], tmp_path / 'empty')
    folder = own_store(tmp_path)
    change_manifest(folder, shards=[])
    with pytest.raises(ValueError, match='must name at least one molecule'):
        ArrowMolecules(folder)


def test_a_second_store_in_a_folder_is_refused(tmp_path):
    folder = own_store(tmp_path)
    with pytest.raises(ValueError, match="holds a store already: choose another folder, or remove this one"):
        ArrowMolecules.write(QM9Sample()[:2], folder)
    assert len(ArrowMolecules(folder)) == 12


def test_a_second_writer_is_refused(tmp_path):
    with locked_folder(tmp_path / 'own'), pytest.raises(ValueError, match="is in use by another process"):
        own_store(tmp_path)


@pytest.mark.parametrize('text, message', [
    ('', "manifest.json' is empty"),
    ('{"format": ', "manifest.json' is truncated or damaged"),
    ('[]', "must be of format 'torch_geometric_inertial molecules'"),
    ('{"format": "torch_geometric_inertial molecules"}', "manifest.json' is truncated or damaged"),
])
def test_a_damaged_manifest_is_named(tmp_path, text, message):
    folder = own_store(tmp_path)
    (folder / 'manifest.json').write_text(text)
    with pytest.raises(ValueError, match=message):
        ArrowMolecules(folder)


def test_another_version_is_refused(tmp_path):
    folder = own_store(tmp_path)
    change_manifest(folder, schema_version=2)
    with pytest.raises(ValueError, match=r'must be of schema version 1 \(got 2\): make the store again'):
        ArrowMolecules(folder)


def test_a_missing_shard_is_named(tmp_path):
    folder = own_store(tmp_path)
    (folder / 'shard-00001.arrow').unlink()
    with pytest.raises(FileNotFoundError, match=r"shard '.*shard-00001.arrow' of the manifest is missing"):
        ArrowMolecules(folder)


def test_a_torn_shard_is_named(tmp_path):
    folder = own_store(tmp_path)
    path = folder / 'shard-00002.arrow'
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"shard '.*shard-00002.arrow' is cut off or was altered: expected \d+ bytes"):
        ArrowMolecules(folder)


def test_an_altered_shard_is_named_when_it_is_read(tmp_path):
    folder = own_store(tmp_path)
    path = folder / 'shard-00001.arrow'
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    data = ArrowMolecules(folder)
    assert data[0].z.numel() and data[11].z.numel()
    for read in (lambda: data[7], lambda: data.batch(torch.tensor([0, 7])), lambda: data.ptr, data.verify):
        with pytest.raises(ValueError, match=r"shard '.*shard-00001.arrow' was altered"):
            read()
    assert len(ArrowMolecules(folder, verify=False).batch(torch.tensor([7])).ptr) == 2


def test_a_shard_that_is_no_arrow_file_is_named(tmp_path):
    folder = own_store(tmp_path)
    path = folder / 'shard-00000.arrow'
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match=r"shard '.*shard-00000.arrow' is damaged or no Arrow file"):
        ArrowMolecules(folder, verify=False)[0]


def test_a_shard_of_other_columns_is_named(tmp_path):
    folder = own_store(tmp_path)
    columns = json.loads((folder / 'manifest.json').read_text())['columns']
    change_manifest(folder, columns=columns | dict(properties=['gap']))
    with pytest.raises(ValueError, match=r"shard '.*shard-00000.arrow' has other columns than its manifest says"):
        ArrowMolecules(folder)[0]


def test_a_shard_of_several_batches_is_no_shard(tmp_path):
    import pyarrow as pa
    folder = own_store(tmp_path)
    path = folder / 'shard-00000.arrow'
    batch = pa.ipc.open_file(path.read_bytes()).get_batch(0)
    with pa.ipc.new_file(str(path), batch.schema) as writer:
        writer.write_batch(batch)
        writer.write_batch(batch)
    shards = json.loads((folder / 'manifest.json').read_text())['shards']
    shards[0]['bytes'] = path.stat().st_size
    change_manifest(folder, shards=shards)
    with pytest.raises(ValueError, match=r"shard '.*' must hold one record batch \(got 2\)"):
        ArrowMolecules(folder, verify=False)[0]


def test_without_space_nothing_is_left(tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3600, hard))
    try:
        with pytest.raises(OSError, match=r"shard '.*full/shard-00001.arrow' cannot be written \(.*File too large"):
            ArrowMolecules.write([*QM9Sample()[:5], *QM9Sample()[200:300]], tmp_path / 'full', shard_molecules=5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in (tmp_path / 'full').iterdir()] == ['.lock']
    assert len(ArrowMolecules.write(QM9Sample()[:20], tmp_path / 'full')) == 20


def test_other_programs_read_it(store):
    """Arrow alone, without this package."""
    code = f'''
import pyarrow as pa
batch = pa.ipc.open_file(pa.memory_map({str(store / 'shard-00000.arrow')!r})).read_all()
print(batch.num_rows, batch.schema.metadata[b'schema_version'].decode(), batch.schema.metadata[b'units'].decode())
print(len(batch['pos'][0]) == 3 * len(batch['z'][0]), batch['identifier'][3])
'''
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith('17 1 ') and json.loads(first[5:]) == dict(pos='Å', homo='eV', gap='eV')
    assert second == 'True gdb 3'


def test_without_pyarrow_the_error_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, 'pyarrow', None)
    with pytest.raises(ImportError, match=r"stores of molecules need pyarrow: pip install '.*\[scale\]'"):
        ArrowMolecules(store)[0]
