import os

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
    assert sorted(os.listdir(tmp_path)) == ['checkpoint-000000090.pt', 'checkpoint-000001000.pt']


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
