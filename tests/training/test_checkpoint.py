import hashlib
import os
import resource

import pytest
import torch

from torch_geometric_inertial.training import load_checkpoint, save_checkpoint


class Malice:
    """A pickle that makes a folder when it is read."""
    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker, )


def state(step):
    return dict(step=step, model=dict(weight=torch.full((50, 50), float(step))))


def tear(path, share=0.5):
    path.write_bytes(path.read_bytes()[:int(share * path.stat().st_size)])


def test_the_newest_is_loaded_and_the_last_two_are_kept(tmp_path):
    assert load_checkpoint(tmp_path) is None and load_checkpoint(tmp_path / 'nowhere') is None
    for step in (5, 90, 1000):
        save_checkpoint(state(step), tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded['step'] == 1000 and torch.equal(loaded['model']['weight'], state(1000)['model']['weight'])
    assert sorted(os.listdir(tmp_path)) == [f'checkpoint-{step:09d}.pt{end}' for step in (90, 1000)
                                            for end in ('', '.sha256')]


def test_the_hash_beside_it_is_what_sha256sum_says(tmp_path):
    path = save_checkpoint(state(3), tmp_path)
    words = path.with_name(f'{path.name}.sha256').read_text().split()
    assert words == [hashlib.sha256(path.read_bytes()).hexdigest(), path.name]


@pytest.mark.parametrize('place', [0.1, 0.5, 0.9])
def test_one_flipped_bit_is_found(tmp_path, place):
    save_checkpoint(state(1), tmp_path)
    path = save_checkpoint(state(2), tmp_path)
    content = bytearray(path.read_bytes())
    content[int(place * len(content))] ^= 16
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"checkpoint-000000002.pt' cannot be read and is passed over: its SHA-256"):
        assert load_checkpoint(tmp_path)['step'] == 1


@pytest.mark.parametrize('other, message', [
    (torch.zeros(3), r'must hold a dictionary \(got Tensor\)'),
    ([1, 2], r'must hold a dictionary \(got list\)'),
    (dict(step=2), r"is of another kind and lacks \['model'\]"),
    (dict(step=1, model={}), r'must hold step 2, as its name says \(got 1\)'),
], ids=['tensor', 'list', 'dictionary', 'renamed'])
def test_a_newest_checkpoint_of_another_kind_is_passed_over(tmp_path, other, message):
    save_checkpoint(state(1), tmp_path)
    path = save_checkpoint(state(2), tmp_path)
    torch.save(other, path)
    path.with_name(f'{path.name}.sha256').write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.warns(UserWarning, match=message):
        assert load_checkpoint(tmp_path, ('step', 'model'))['step'] == 1


def test_without_its_hash_a_checkpoint_is_read_with_a_warning(tmp_path):
    path = save_checkpoint(state(1), tmp_path)
    path.with_name(f'{path.name}.sha256').unlink()
    with pytest.warns(UserWarning, match='has no SHA-256 beside it and is not checked'):
        assert load_checkpoint(tmp_path)['step'] == 1


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    """The limit on the size of a file does what a full disk does."""
    save_checkpoint(state(1), tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises((OSError, RuntimeError)):
            save_checkpoint(dict(step=2, x=torch.zeros(1_000_000)), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert load_checkpoint(tmp_path)['step'] == 1
    assert sorted(os.listdir(tmp_path)) == ['checkpoint-000000001.pt', 'checkpoint-000000001.pt.sha256']


@pytest.mark.parametrize('share', [0.0, 0.5, 0.99])
def test_a_torn_checkpoint_is_passed_over_for_the_one_before(tmp_path, share):
    save_checkpoint(state(1), tmp_path)
    tear(save_checkpoint(state(2), tmp_path), share)
    with pytest.warns(UserWarning, match=r"checkpoint '.*checkpoint-000000002.pt' cannot be read and is passed over"):
        assert load_checkpoint(tmp_path)['step'] == 1


@pytest.mark.filterwarnings('ignore:checkpoint')
def test_nothing_but_torn_checkpoints(tmp_path):
    for step in (1, 2):
        tear(save_checkpoint(state(step), tmp_path))
    with pytest.raises(ValueError, match=r"none of the 2 checkpoints in '.*' can be read"):
        load_checkpoint(tmp_path)


def test_no_code_is_run(tmp_path):
    folder, marker = tmp_path / 'run', tmp_path / 'marker'
    save_checkpoint(state(1), folder)
    path = save_checkpoint(dict(step=2, model=Malice(marker)), folder)
    with pytest.warns(UserWarning, match='cannot be read and is passed over'):
        assert load_checkpoint(folder)['step'] == 1
    assert not marker.exists()
    torch.load(path, weights_only=False)  # the marker works
    assert marker.exists()


def test_a_half_written_file_is_no_checkpoint(tmp_path):
    save_checkpoint(state(1), tmp_path)
    (tmp_path / '.checkpoint-000000002.pt.77.part').write_bytes(b'half')
    assert load_checkpoint(tmp_path)['step'] == 1
