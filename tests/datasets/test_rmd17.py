import shutil

import numpy as np
import pytest
import torch

from torch_geometric_inertial.datasets import RevisedMD17
from torch_geometric_inertial.datasets.rmd17 import check_frames


@pytest.fixture
def root(shared_data, tmp_path):
    (tmp_path / 'raw').mkdir()
    shutil.copy(shared_data / 'rmd17' / 'rmd17_ethanol.npz', tmp_path / 'raw')
    return tmp_path


@pytest.fixture
def official(shared_data, tmp_path):
    """The files of the public source, written from the union of frames."""
    (tmp_path / 'raw').mkdir()
    with np.load(shared_data / 'rmd17' / 'rmd17_ethanol.npz') as file:
        for part in ('train', 'test'):
            rows = file[f'split_{part}_03']
            np.savez(tmp_path / 'raw' / f'rmd17_ethanol_{part}_03.npz', nuclear_charges=file['z'],
                     coords=file['R'][rows].astype(np.float64), energies=file['E'][rows], forces=file['F'][rows])
    return tmp_path


def test_frames_of_a_split(root):
    train, test = RevisedMD17(str(root), 'ethanol', train=True), RevisedMD17(str(root), 'ethanol', train=False)
    assert len(train) == len(test) == 1000
    item = train[0]
    assert item.z.tolist().count(1) == 6 and item.pos.shape == item.force.shape == (9, 3)
    assert item.energy.dtype == torch.float64 and -98_000 < float(item.energy) < -96_000
    force = torch.stack([item.force for item in train])
    assert float(force.sum(dim=1).abs().max()) < 1e-2  # no net force
    assert 15 < float(force.std()) < 35


def test_official_files_and_union_are_the_same_frames(official, shared_data):
    files = RevisedMD17(str(official), 'ethanol', train=False, split=3)
    shutil.copy(shared_data / 'rmd17' / 'rmd17_ethanol.npz', official / 'raw')
    shutil.rmtree(official / 'processed')
    union = RevisedMD17(str(official), 'ethanol', train=False, split=3)
    for a, b in zip(files[:5], union[:5], strict=True):
        assert torch.equal(a.pos, b.pos) and torch.equal(a.energy, b.energy) and torch.equal(a.force, b.force)


def test_other_frames_are_refused(root):
    path = root / 'raw' / 'rmd17_ethanol.npz'
    with np.load(path) as file:
        arrays = dict(file)
    arrays['E'] = arrays['E'] + 10
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="frames are not those of the official split 'ethanol_train_01'"):
        RevisedMD17(str(root), 'ethanol')


def test_order_does_not_matter_but_number_does(shared_data):
    with np.load(shared_data / 'rmd17' / 'rmd17_benzene.npz') as file:
        rows = file['split_test_02'][::-1].copy()
        frames = [torch.from_numpy(file[key][rows]) for key in ('R', 'E', 'F')]
    check_frames('benzene_test_02', *frames)
    with pytest.raises(ValueError, match='the 999 frames'):
        check_frames('benzene_test_02', *(x[1:] for x in frames))


@pytest.mark.parametrize('arguments, message', [
    (dict(name='water'), r"'name' must be one of aspirin, .* \(got 'water'\)"),
    (dict(name='ethanol', split=6), r"'split' must be 1 to 5 \(got 6\)"),
])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        RevisedMD17(str(tmp_path), **arguments)
