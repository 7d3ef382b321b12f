import subprocess
import sys
from pathlib import Path
from urllib.error import URLError

import pytest
import torch

from torch_geometric_inertial.datasets import (
    PCQM4Mv2Conformers,
    QM9Sample,
    RevisedMD17,
    gdb_ids,
    load_qm9,
    qm9_split,
    raw_files,
)


def test_parts_of_the_sample_are_disjoint_and_make_all_of_it():
    parts = {split: load_qm9(split) for split in ('train', 'valid', 'test')}
    assert {split: len(part) for split, part in parts.items()} == dict(train=9000, valid=500, test=500)
    members = torch.cat([part.idx for part in parts.values()])
    assert sorted(members.tolist()) == sorted(QM9Sample().idx.tolist())
    assert parts['test'][3].pos.shape == (parts['test'][3].num_nodes, 3)


@pytest.fixture(scope='module')
def raw(shared_data, tmp_path_factory):
    root = tmp_path_factory.mktemp('qm9')
    subprocess.run([sys.executable, shared_data / 'qm9' / 'make_pyg_raw.py', root, '--limit', '40'], check=True,
                   capture_output=True)
    return root


@pytest.mark.filterwarnings('ignore')
def test_a_raw_folder_is_split_as_edm_does(raw):
    seen = 0
    for split in ('train', 'valid', 'test'):
        part = load_qm9(split, raw)
        assert bool(qm9_split(gdb_ids([data.name for data in part]), split).all())
        seen += len(part)
    assert 30 <= seen <= 40


@pytest.mark.parametrize('content, message', [
    (b'', "is empty: delete it"),
    (b'<html>moved</html>', "is a web page, not the file that was to be downloaded: delete it"),
    (b'half', r"QM9 in '.*' cannot be read \(.+\): delete its folder 'processed'"),
])
@pytest.mark.filterwarnings('ignore')
def test_a_damaged_cache_is_named(raw, content, message):
    load_qm9('train', raw)
    path = next((raw / 'processed').glob('data*.pt'))
    whole = path.read_bytes()
    try:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            load_qm9('train', raw)
    finally:
        path.write_bytes(whole)


def offline(url, folder):
    (Path(folder) / 'half').write_text('half')
    raise URLError('no network')


@pytest.mark.parametrize('load, message', [
    (lambda root: load_qm9('train', root), r"QM9 cannot be downloaded to '.*' \(.*no network.*\): try again with a "
                                           r"network, or leave 'root' out"),
    (lambda root: RevisedMD17(root, 'ethanol'), r"'https://.*rmd17_ethanol_train_01.npz' cannot be downloaded \(.*no "
                                                r"network.*\): try again with a network, or put the file into '.*raw'"),
    (PCQM4Mv2Conformers, r"'https?://.*' cannot be downloaded"),
], ids=['qm9', 'rmd17', 'pcqm4mv2'])
@pytest.mark.filterwarnings('ignore')
def test_without_a_network(tmp_path, monkeypatch, load, message):
    monkeypatch.setattr(raw_files, 'download_url', offline)
    monkeypatch.setattr('torch_geometric.datasets.qm9.download_url', offline)
    with pytest.raises(OSError, match=message):
        load(str(tmp_path))
    if load is not PCQM4Mv2Conformers and 'QM9' not in message:
        assert not list((tmp_path / 'raw').iterdir())  # nothing that the next call would take for the file


def test_errors():
    with pytest.raises(ValueError, match=r"'split' must be one of train, valid, test \(got 'val'\)"):
        load_qm9('val')
