import hashlib
import json
import shutil
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from helpers.conformer_files import gap_of, molecules, write_molecule3d, write_pcqm4mv2
from helpers.faults import full_disk, killed_at
from torch_geometric.data import Batch
from torch_geometric.datasets import PCQM4Mv2 as Graphs

from torch_geometric_inertial.datasets import ConformerDataset, Molecule3D, PCQM4Mv2Conformers, conformers, pcqm4mv2
from torch_geometric_inertial.datasets.conformers import COLUMNS
from torch_geometric_inertial.datasets.pcqm4mv2 import check_md5, read_split
from torch_geometric_inertial.superpose import superposed_rmsd
from torch_geometric_inertial.training import PackedTargets

Chem = pytest.importorskip('rdkit.Chem')
DATA = molecules(12)


@pytest.fixture(scope='module')
def pcqm(tmp_path_factory):
    root = tmp_path_factory.mktemp('pcqm4mv2')
    write_pcqm4mv2(root, DATA, num_train=6)
    return root


@pytest.fixture(scope='module')
def mol3d(tmp_path_factory):
    root = tmp_path_factory.mktemp('molecule3d')
    write_molecule3d(root, DATA)
    return root


def heavy(data):
    return sorted(k for k in data.z.tolist() if k > 1)


def same_geometry(item, data):
    """Each atom lies where an atom of its element does."""
    distance = torch.cdist(item.pos_relaxed, data.pos)
    return float(distance.amin(1).max()) < 2e-4 and torch.equal(item.z, data.z[distance.argmin(1)])


# The official formats -----------------------------------------------------------------------------------------------


def test_pcqm4mv2_for_training(pcqm):
    dataset = PCQM4Mv2Conformers(str(pcqm), num_conformers=3)
    assert len(dataset) == 6 and dataset.report['read'] == 6 and dataset.report['left_out'] == []
    assert sum(dataset.report['made_by'].values()) == 6
    for i, item in enumerate(dataset):
        assert int(item.idx) == i and float(item.gap) == gap_of(i)
        assert heavy(item) == heavy(DATA[i]) == sorted(item.z.tolist())
        assert same_geometry(item, DATA[i])
        assert item.conformers.shape == (item.num_nodes, 3, 3) and torch.equal(item.pos, item.conformers[:, 0])
        ptr = torch.tensor([0, item.num_nodes])
        assert float(superposed_rmsd(item.pos, item.pos_relaxed, ptr)) < 2
    assert item.z.dtype == torch.int64 and item.gap.dtype == torch.float64


def test_pcqm4mv2_without_geometry(pcqm):
    for split, rows in (('val', [6, 7]), ('test', [8, 9]), ('holdout', [10, 11])):
        dataset = PCQM4Mv2Conformers(str(pcqm), split, num_conformers=2)
        assert [int(item.idx) for item in dataset] == rows
        for item, i in zip(dataset, rows, strict=True):
            assert sorted(item.z.tolist()) == heavy(DATA[i])
            assert 'pos_relaxed' not in item and ('gap' in item) == (split == 'val')
    assert float(PCQM4Mv2Conformers(str(pcqm), 'val', num_conformers=2)[1].gap) == gap_of(7)


def test_pcqm4mv2_shares_its_files_with_the_graphs_of_pyg(pcqm):
    dataset = PCQM4Mv2Conformers(str(pcqm), 'val', num_conformers=2)
    assert dataset.raw_file_names == Graphs.raw_file_names.fget(None)


def test_pcqm4mv2_has_the_molecules_of_the_graphs_of_pyg(pcqm):
    pytest.importorskip('pandas')  # PyG reads the table with it
    dataset = PCQM4Mv2Conformers(str(pcqm), 'val', num_conformers=2)
    graphs = Graphs(str(pcqm), 'val')
    for ours, graph in zip(dataset, graphs, strict=True):
        assert sorted(ours.z.tolist()) == sorted(graph.x[:, 0].tolist()) and float(ours.gap) == graph.y


def test_pcqm4mv2_with_hydrogens_and_a_limit(pcqm):
    dataset = PCQM4Mv2Conformers(str(pcqm), num_conformers=2, hydrogens=True, limit=2)
    assert [item.z.sort().values.tolist() for item in dataset] == [sorted(data.z.tolist()) for data in DATA[:2]]
    assert all(same_geometry(item, data) for item, data in zip(dataset, DATA[:2], strict=True))


def test_geometries_alone(pcqm, mol3d):
    for dataset, members in ((PCQM4Mv2Conformers(str(pcqm), num_conformers=0), range(6)),
                             (Molecule3D(str(mol3d), 'val', num_conformers=0), (3, 8))):
        assert 'conformers' not in dataset[0] and torch.equal(dataset[0].pos, dataset[0].pos_relaxed)
        assert all(same_geometry(item, DATA[i]) for item, i in zip(dataset, members, strict=True))
        packed = PackedTargets(*dataset.columns())
        assert set(packed.atom_columns) == {'z', 'pos', 'pos_relaxed'}


@pytest.mark.parametrize('split, mode, members', [
    ('train', 'random', [0, 1, 2, 5, 6, 7, 10, 11]), ('val', 'random', [3, 8]), ('test', 'random', [4, 9]),
    ('train', 'scaffold', [10, 11]),
])
def test_molecule3d(mol3d, split, mode, members):
    dataset = Molecule3D(str(mol3d), split, mode, num_conformers=2)
    assert [int(item.idx) for item in dataset] == members
    for item, i in zip(dataset, members, strict=True):
        assert item.z.tolist() == DATA[i].z.tolist() and float(item.gap) == gap_of(i)
        torch.testing.assert_close(item.pos_relaxed, DATA[i].pos, atol=1e-4, rtol=0)


def test_own_molecules(tmp_path):
    gap = torch.arange(4.0)
    dataset = ConformerDataset(str(tmp_path), DATA[:4], gap, num_conformers=2, hydrogens=True)
    for item, data, value in zip(dataset, DATA[:4], gap, strict=True):
        assert item.z.tolist() == data.z.tolist() and float(item.gap) == value
        torch.testing.assert_close(item.pos_relaxed, data.pos, atol=1e-4, rtol=0)
    other = ConformerDataset(str(tmp_path), DATA[:4], gap + 1, num_conformers=2)
    assert float(other[0].gap) == 1  # other gaps are another set


# Storage ------------------------------------------------------------------------------------------------------------


def test_columns_batches_and_items_are_the_same(pcqm):
    dataset = PCQM4Mv2Conformers(str(pcqm), num_conformers=3)
    packed = PackedTargets(*dataset.columns())
    index = torch.tensor([4, 0, 5])
    ours, theirs = packed.batch(index), Batch.from_data_list([dataset[int(i)] for i in index])
    for name in (*COLUMNS, 'pos', 'ptr', 'batch'):
        assert torch.equal(ours[name], theirs[name].to(ours[name].dtype))


def test_items_are_copies(pcqm):
    dataset = PCQM4Mv2Conformers(str(pcqm), num_conformers=3)
    before = dataset[5].clone()
    for name in ('z', 'pos', 'conformers', 'pos_relaxed', 'gap'):
        dataset[5][name].zero_()
        assert bool((dataset[5][name] == before[name]).all())


def test_what_was_made_is_read_again(pcqm):
    first = PCQM4Mv2Conformers(str(pcqm), num_conformers=3)
    path = pcqm / 'conformers' / first.key / 'gap.npy'
    changed = path.stat().st_mtime_ns
    again = PCQM4Mv2Conformers(str(pcqm), num_conformers=3, transform=lambda data: data.z)
    assert path.stat().st_mtime_ns == changed and torch.equal(again[2], first[2].z)
    other = PCQM4Mv2Conformers(str(pcqm), num_conformers=3, seed=1)
    assert other.key != first.key and not torch.equal(other[5].conformers, first[5].conformers)


def test_the_number_of_processes_and_a_stop_change_nothing(tmp_path, monkeypatch):
    write_molecule3d(tmp_path, DATA)
    monkeypatch.setattr(conformers, 'SHARD', 3)
    here = Molecule3D(str(tmp_path), num_conformers=2)
    folder = tmp_path / 'processed' / here.key
    arrays = {path.name: path.read_bytes() for path in folder.glob('*.npy')}
    assert {'z.npy', 'conformers.npy', 'pos_relaxed.npy', 'ptr.npy'} <= set(arrays) and not (folder / 'shards').exists()
    folder.rename(folder.with_name('kept'))

    real, seen = conformers._write_shard, []

    def stop_at_the_third(records, path, *settings):
        if path.name.startswith('000002'):
            raise KeyboardInterrupt
        seen.append(path.name)
        return real(records, path, *settings)
    with monkeypatch.context() as patch:
        patch.setattr(conformers, '_write_shard', stop_at_the_third)
        with pytest.raises(KeyboardInterrupt):
            Molecule3D(str(tmp_path), num_conformers=2)
    done = {path: path.stat().st_mtime_ns for path in (folder / 'shards').glob('*.npz')}
    assert len(done) == len(seen) == 2
    Molecule3D(str(tmp_path), num_conformers=2, num_workers=2)
    assert {path.name: path.read_bytes() for path in folder.glob('*.npy')} == arrays


# What does not fit --------------------------------------------------------------------------------------------------


def test_molecules_that_cannot_be_read_are_counted_and_named(tmp_path):
    write_pcqm4mv2(tmp_path, DATA, 6, smiles={1: 'F[P](F)(F)(F)(F)F', 4: 'CCCCCCCCCCCC'})
    with pytest.warns(UserWarning, match=r'2 of 6 molecules are left out: 1 \(RDKit refuses the SMILES\), 4 \(SMILES'):
        dataset = PCQM4Mv2Conformers(str(tmp_path), num_conformers=1)
    assert [int(item.idx) for item in dataset] == [0, 2, 3, 5]
    entries = dataset.report['left_out']
    assert [entry['idx'] for entry in entries] == [1, 4] and entries[0]['name'] == 'F[P](F)(F)(F)(F)F'
    assert entries[1]['why'].startswith('SMILES and molfile are different molecules (12 and ')
    assert dataset.report['read'] == 6 and dataset.report['molecules'] == 4
    on_disk = json.loads((tmp_path / 'conformers' / dataset.key / 'report.json').read_text())
    assert on_disk == dataset.report


def test_nothing_that_can_be_read(tmp_path):
    write_molecule3d(tmp_path, DATA[:5], blocks={4: 'not a molecule\n'})
    with pytest.warns(UserWarning), pytest.raises(ValueError, match='none of the 1 molecules could be read'):
        Molecule3D(str(tmp_path), 'test', num_conformers=1)


@pytest.mark.parametrize('changes, split, message', [
    (dict(geometries=5), 'train', r'expected a geometry of each training molecule, 6 \(got 5\)'),
    (dict(gap={2: ''}), 'train', r'the gap of molecule 2 must be finite \(got nan\)'),
    (dict(gap={7: 'inf'}), 'val', r'the gap of molecule 7 must be finite \(got inf\)'),
    (dict(header=['idx', 'smiles', 'gap']), 'val', r"needs columns 'smiles' and 'homolumogap' \(got \['idx', 'smiles'"),
])
def test_files_of_pcqm4mv2_that_do_not_fit(tmp_path, changes, split, message):
    write_pcqm4mv2(tmp_path, DATA, 6, **changes)
    with pytest.raises(ValueError, match=message):
        PCQM4Mv2Conformers(str(tmp_path), split, num_conformers=1)


def test_a_split_beyond_the_table(tmp_path):
    write_pcqm4mv2(tmp_path, DATA, 6)
    torch.save({'valid': np.array([3, 12])}, tmp_path / 'raw' / 'pcqm4m-v2' / 'split_dict.pt')
    with pytest.raises(ValueError, match='the split names rows 3 to 12, but there are 12'):
        PCQM4Mv2Conformers(str(tmp_path), 'val', num_conformers=1)


@pytest.mark.parametrize('changes, message', [
    (dict(rows=11), r'expected a row of each of the 12 molecules of the SDF files \(got 11\)'),
    (dict(gap={4: 'nan'}), r'the gap of molecule 4 must be finite \(got nan\)'),
    (dict(test=[4, 12]), 'the split names molecules 4 to 12, but there are 12'),
    (dict(header=['cid', *'abcdefg']), r"needs a column 'homolumogap' \(got \['cid', 'a'"),
])
def test_files_of_molecule3d_that_do_not_fit(tmp_path, changes, message):
    write_molecule3d(tmp_path, DATA, **changes)
    with pytest.raises(ValueError, match=message):
        Molecule3D(str(tmp_path), 'test', num_conformers=1)


def test_missing_files_of_molecule3d_are_named(tmp_path):
    write_molecule3d(tmp_path, DATA)
    (tmp_path / 'raw' / 'properties.csv').unlink()
    with pytest.raises(FileNotFoundError, match=r"raw' lacks properties.csv: fetch them from https://drive"):
        Molecule3D(str(tmp_path), num_conformers=1)


def test_what_is_missing_is_downloaded_and_unpacked(tmp_path, monkeypatch):
    write_pcqm4mv2(tmp_path / 'source', DATA[:6], 3)
    source = tmp_path / 'source' / 'raw'
    with zipfile.ZipFile(tmp_path / 'pcqm4m-v2.zip', 'w') as archive:
        for path in (source / 'pcqm4m-v2').rglob('*.*'):
            archive.write(path, path.relative_to(source))
    with tarfile.open(tmp_path / 'train.sdf.tar.gz', 'w:gz') as archive:
        archive.add(source / 'pcqm4m-v2-train.sdf', 'pcqm4m-v2-train.sdf')
    monkeypatch.setattr(Graphs, 'url', f'file://{tmp_path}/pcqm4m-v2.zip')
    monkeypatch.setattr(pcqm4mv2, 'SDF_URL', f'file://{tmp_path}/train.sdf.tar.gz')
    root = tmp_path / 'root'
    val = PCQM4Mv2Conformers(str(root), 'val', num_conformers=1)  # needs no geometries
    assert [int(item.idx) for item in val] == [3]
    assert not (root / 'raw' / 'pcqm4m-v2-train.sdf').exists()
    (tmp_path / 'pcqm4m-v2.zip').unlink()  # what is there is not downloaded again
    with pytest.raises(ValueError, match=f'is damaged, and removed: expected MD5 {pcqm4mv2.SDF_MD5}'):
        PCQM4Mv2Conformers(str(root), num_conformers=1)
    digest = hashlib.md5((tmp_path / 'train.sdf.tar.gz').read_bytes()).hexdigest()
    monkeypatch.setattr(pcqm4mv2, 'SDF_MD5', digest)
    assert len(PCQM4Mv2Conformers(str(root), num_conformers=1)) == 3
    assert sorted(path.name for path in (root / 'raw').iterdir()) == ['pcqm4m-v2', 'pcqm4m-v2-train.sdf']


def test_a_damaged_download_is_removed(tmp_path):
    path = tmp_path / 'a.tar.gz'
    path.write_bytes(b'abc')
    check_md5(path, '900150983cd24fb0d6963f7d28e17f72')  # RFC 1321
    path.write_bytes(b'abd')
    with pytest.raises(ValueError, match=r'is damaged, and removed: expected MD5 900150983cd24fb0d6963f7d28e17f72'):
        check_md5(path, '900150983cd24fb0d6963f7d28e17f72')
    assert not path.exists()


def test_splits_of_old_and_new_numpy_are_read_without_running_code(tmp_path):
    path = tmp_path / 'split.pt'
    torch.save({'train': np.arange(5), 'valid': np.arange(2, dtype=np.int32)}, path)
    new = read_split(path)
    assert new['train'].tolist() == [0, 1, 2, 3, 4] and new['valid'].tolist() == [0, 1]
    for core in (b'numpy._core.', b'numpy.core.'):
        other = tmp_path / 'other.pt'
        with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, 'w') as target:
            for info in source.infolist():
                text = source.read(info).replace(b'numpy._core.', b'numpy.core.').replace(b'numpy.core.', core)
                target.writestr(info.filename, text)
        assert read_split(other)['train'].tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize('kind, arguments, message', [
    (PCQM4Mv2Conformers, dict(split='valid'), r"'split' must be one of train, val, test, holdout \(got 'valid'\)"),
    (PCQM4Mv2Conformers, dict(split='val', num_conformers=0), r"'num_conformers' must be at least 1 where no"),
    (PCQM4Mv2Conformers, dict(num_conformers=256), r"'num_conformers' must be in 0 … 255 \(got 256\)"),
    (PCQM4Mv2Conformers, dict(num_workers=-1), r"'seed' and 'num_workers' must not be negative \(got 0 and -1\)"),
    (PCQM4Mv2Conformers, dict(limit=0), r"'limit' must be at least 1 \(got 0\)"),
    (Molecule3D, dict(split='valid'), r"'split' must be one of train, val, test \(got 'valid'\)"),
    (Molecule3D, dict(split_mode='size'), r"'split_mode' must be 'random' or 'scaffold' \(got 'size'\)"),
    (ConformerDataset, dict(molecules=DATA[:2], gap=torch.zeros(3)), r"'gap' must be 2 finite numbers, one a molecule"),
    (ConformerDataset, dict(molecules=DATA[:1], gap=torch.tensor([torch.nan])), r"\(got \[1\], 1 of them not finite\)"),
])
def test_bad_arguments(tmp_path, kind, arguments, message):
    with pytest.raises(ValueError, match=message):
        kind(str(tmp_path), **arguments)


# What a cache knows -------------------------------------------------------------------------------------------------

def own(root, molecules, gap=(5.0, 6.0), **options):
    options = dict(num_conformers=0, hydrogens=True) | options
    return ConformerDataset(str(root), molecules, torch.tensor(gap), **options)


@pytest.mark.parametrize('change', ['other', 'pos', 'order', 'gap'])
def test_other_molecules_are_not_read_from_the_cache(tmp_path, change):
    first = own(tmp_path, DATA[:2])
    keys = {first.key, own(tmp_path, [data.clone() for data in DATA[:2]]).key}
    assert len(keys) == 1  # equal content is equal
    molecules, gap = list(DATA[:2]), (5.0, 6.0)
    if change == 'other':
        molecules = list(DATA[4:6])
    elif change == 'order':
        molecules = molecules[::-1]
    elif change == 'gap':
        gap = (5.0, 6.5)
    else:
        molecules[1] = DATA[1].clone()
        molecules[1].pos = DATA[1].pos.clone()
        molecules[1].pos[0] += 0.01
    again = own(tmp_path, molecules, gap)
    assert again.key not in keys
    for item, data, value in zip(again, molecules, gap, strict=True):
        assert sorted(item.z.tolist()) == sorted(data.z.tolist()) and float(item.gap) == value
        assert float(torch.cdist(item.pos_relaxed, data.pos).amin(1).max()) < 2e-4


def test_a_cut_cache_is_made_again(tmp_path):
    first = own(tmp_path, DATA[:2])
    path = tmp_path / 'processed' / first.key / 'pos_relaxed.npy'
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.warns(UserWarning, match=r'is cut off or of other raw files, and is made again'):
        again = own(tmp_path, DATA[:2])
    assert all(torch.equal(a.pos_relaxed, b.pos_relaxed) for a, b in zip(own(tmp_path, DATA[:2]), again, strict=True))


def test_a_process_that_is_killed_leaves_nothing_half(tmp_path, monkeypatch):
    """Before each of its writes in turn; the next run goes on, and what there is then is what there would have been."""
    monkeypatch.setattr(conformers, 'SHARD', 1)
    first = own(tmp_path, DATA[:2])
    folder = tmp_path / 'processed' / first.key
    whole = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix in ('.npy', '.json')}
    assert len(whole) > 5
    step = 0
    while True:
        shutil.rmtree(folder)
        if not killed_at(step, folder, lambda: own(tmp_path, DATA[:2])):
            break
        assert all((folder / name).read_bytes() == content for name, content in whole.items()
                   if (folder / name).exists())
        own(tmp_path, DATA[:2])
        assert {path.name for path in folder.iterdir()} - {'.lock'} == set(whole)
        assert all((folder / name).read_bytes() == content for name, content in whole.items())
        step += 1
    assert step > 20


def test_a_full_disk_leaves_nothing_half(tmp_path):
    with full_disk(150), pytest.raises(OSError):
        own(tmp_path, DATA[:2])
    assert not [path for path in (tmp_path / 'processed').rglob('*.part')]
    assert len(own(tmp_path, DATA[:2])) == 2


def test_what_a_stopped_run_made_of_other_raw_files_is_not_used(tmp_path, monkeypatch):
    write_pcqm4mv2(tmp_path, DATA, num_train=6)
    monkeypatch.setattr(conformers, '_join', lambda *args: 1 / 0)  # stopped before the end
    with pytest.raises(ZeroDivisionError):
        PCQM4Mv2Conformers(str(tmp_path), num_conformers=1)
    monkeypatch.undo()
    shutil.rmtree(tmp_path / 'raw')
    write_pcqm4mv2(tmp_path, DATA[::-1], num_train=5)
    again = PCQM4Mv2Conformers(str(tmp_path), num_conformers=1)
    assert heavy(again[0]) == heavy(DATA[-1]) and same_geometry(again[0], DATA[-1])


@pytest.mark.parametrize('name, place', [('pos_relaxed', -5), ('ptr', -9), ('z', 3), ('gap', 60)])
def test_a_flipped_byte_names_the_file(tmp_path, name, place):
    first = own(tmp_path, DATA[:2])
    path = tmp_path / 'processed' / first.key / f'{name}.npy'
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"'.*{name}.npy' is damaged.*: delete it, and it is made again"):
        own(tmp_path, DATA[:2])
    path.unlink()
    with pytest.warns(UserWarning, match='made again'):
        own(tmp_path, DATA[:2])


@pytest.mark.parametrize('content, message', [
    (b'', r"data.csv.gz' is empty: delete it, and fetch it again"),
    (b'\n<!DOCTYPE html><html>404', r"data.csv.gz' is a web page, not the file that was to be downloaded: delete it"),
    (None, r"data.csv.gz' is truncated or damaged \(.+\): delete it, and fetch it again"),
], ids=['empty', 'page', 'cut'])
def test_raw_files_that_are_no_downloads_are_named(tmp_path, content, message):
    write_pcqm4mv2(tmp_path, DATA, 6)
    path = next(tmp_path.rglob('data.csv.gz'))
    path.write_bytes(path.read_bytes()[:-20] if content is None else content)
    with pytest.raises(ValueError, match=message):
        PCQM4Mv2Conformers(str(tmp_path), 'val', num_conformers=1)


@pytest.mark.parametrize('name', ['z', 'pos', 'edge_index', 'edge_attr', 'charge', 'anything'])
def test_the_key_is_of_all_that_a_molecule_holds(name):
    gap = torch.tensor([5.0])
    plain = DATA[0].clone()
    plain.charge, plain.anything = torch.zeros(plain.num_nodes), torch.zeros(3)
    other = plain.clone()
    other[name] = other[name].clone()
    other[name].view(-1)[-1] += 1
    key, changed = (conformers._content_hash([data], gap) for data in (plain, other))
    assert key != changed and key == conformers._content_hash([plain.clone()], gap.clone())
    assert key != conformers._content_hash([plain], gap + 1e-6)
