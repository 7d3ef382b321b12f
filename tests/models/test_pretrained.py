import json
import pickle
import sys
import zipfile
from unittest.mock import patch

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from torch_geometric_inertial import AtomAutoregressor, InertialAR
from torch_geometric_inertial.files import sha256_of
from torch_geometric_inertial.models import TrainingDomain
from torch_geometric_inertial.models.pretrained import BUNDLED, CONFIG_FILE, WEIGHTS_FILE


@pytest.fixture
def saved(make_model, tmp_path):
    model = make_model()
    return model, model.save_pretrained(tmp_path / 'model', card='# A model\n', license='CC0', training=dict(steps=3))


def test_what_is_loaded_is_what_was_saved(saved):
    model, folder = saved
    again = InertialAR.from_pretrained(folder)
    assert again.config == model.config and not again.training
    for (name, a), (other, b) in zip(model.state_dict().items(), again.state_dict().items(), strict=True):
        assert name == other and a.dtype == b.dtype and torch.equal(a, b)
    for a, b in zip(model.generate(3, num_steps=4), again.generate(3, num_steps=4), strict=True):
        assert torch.equal(a.z, b.z) and torch.equal(a.pos, b.pos)


def test_the_training_domain_goes_through_files(make_model, tmp_path):
    model = make_model()
    again = InertialAR.from_pretrained(model.save_pretrained(tmp_path / 'unknown'))
    assert again.training_domain is None
    again.training_domain = TrainingDomain((3, 29), (1, 6, 8), (), (1, 9))
    for i in range(2):
        again = InertialAR.from_pretrained(again.save_pretrained(tmp_path / str(i)))
        assert again.training_domain == TrainingDomain((3, 29), (1, 6, 8), (), (1, 9))
    bundled = InertialAR.from_pretrained('qm9')
    assert InertialAR.from_pretrained(bundled.save_pretrained(tmp_path / 'qm9')).training_domain \
        == bundled.training_domain is not None


def test_a_trained_model_writes_a_card_of_what_was_done(make_model, tmp_path):
    model = make_model()
    model.training_record = dict(steps=162, minutes=1.5)
    model.training_domain = TrainingDomain((3, 9), (1, 6), (), (1, 3))
    folder = model.save_pretrained(tmp_path / 'model', license='CC0-1.0', data="my: 'own'", training=dict(steps=10_000))
    card = (folder / 'README.md').read_text()
    front = yaml.safe_load(card.split('---\n')[1])
    assert front == dict(library_name='torch_geometric_inertial', license='cc0-1.0',
                         tags=['molecules', 'pytorch-geometric', 'inertialar'])
    said = json.loads((folder / CONFIG_FILE).read_text())
    assert said['training'] == dict(steps=162, minutes=1.5)
    for line in ('- steps: 162', '- minutes: 1.5', "- data: my: 'own'",
                 '- learned from: molecules of 3 to 9 atoms, 1 to 3 of them heavy; types H, C',
                 '`InertialAR.from_pretrained(folder)` loads them'):
        assert line in card
    model.training_record = None
    assert not (model.save_pretrained(tmp_path / 'bare') / 'README.md').exists()
    model.training_record = dict(steps=162)
    bare = model.save_pretrained(tmp_path / 'no_license') / 'README.md'
    assert 'license' not in yaml.safe_load(bare.read_text().split('---\n')[1])


def test_half_precision_halves_the_file_and_is_close(make_model, tmp_path):
    model = make_model()
    full, half = (model.save_pretrained(tmp_path / str(d), dtype=d) / WEIGHTS_FILE for d in (None, torch.float16))
    assert half.stat().st_size < 0.75 * full.stat().st_size
    again = InertialAR.from_pretrained(half.parent)
    buffers = {name for name, _ in model.named_buffers()}
    for name, a in model.state_dict().items():
        b = again.state_dict()[name]
        assert a.dtype == b.dtype
        if name in buffers:
            assert torch.equal(a, b)  # landmarks and whitening keep all their digits
        else:
            torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


def test_the_folder_says_what_it_holds(saved):
    model, folder = saved
    facts = json.loads((folder / CONFIG_FILE).read_text())
    assert facts['model'] == 'InertialAR' and facts['units'] == 'angstrom' and facts['license'] == 'CC0'
    assert facts['training'] == dict(steps=3) and facts['config']['elements'] == list(model.elements)
    assert sorted(path.name for path in folder.iterdir()) == ['README.md', CONFIG_FILE, WEIGHTS_FILE]


def test_a_crash_while_writing_leaves_the_last_good_model(saved, make_model):
    model, folder = saved

    def crash(tensors, path):
        path.write_bytes(b'half a file')
        raise OSError('disk full')
    replaced = patch('torch_geometric_inertial.models.pretrained.save_file', crash)
    with replaced, pytest.raises(OSError, match='disk full'):
        make_model(seed=1).save_pretrained(folder)
    again = InertialAR.from_pretrained(folder)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
    assert sorted(path.name for path in folder.iterdir()) == ['README.md', CONFIG_FILE, WEIGHTS_FILE]


def change_facts(folder, **change):
    """Facts that are None go."""
    path = folder / CONFIG_FILE
    facts = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in facts.items() if value is not None}))


def test_one_flipped_bit_of_the_weights_is_found(saved):
    path = saved[1] / WEIGHTS_FILE
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    named, found = json.loads((saved[1] / CONFIG_FILE).read_text())['sha256'], sha256_of(path)
    with pytest.raises(ValueError, match=rf"is truncated or damaged: .* SHA-256 {named} \(got {found}\); delete both"):
        InertialAR.from_pretrained(saved[1])
    change_facts(saved[1], sha256=None)
    InertialAR.from_pretrained(saved[1])  # as an older model, which does not say


def test_each_bundled_model_names_the_hash_of_its_weights():
    folders = [path for path in BUNDLED.iterdir() if path.is_dir()]
    assert len(folders) >= 3
    for folder in folders:
        assert json.loads((folder / CONFIG_FILE).read_text())['sha256'] == sha256_of(folder / WEIGHTS_FILE), folder


@pytest.mark.parametrize('hashed', [True, False])
@pytest.mark.parametrize('share', [0.0, 0.0001, 0.3, 0.999])
def test_truncated_weights(saved, share, hashed):
    path = saved[1] / WEIGHTS_FILE
    if not hashed:
        change_facts(saved[1], sha256=None)
    whole = path.read_bytes()
    path.write_bytes(whole[:int(share * len(whole))])
    what = 'is truncated or damaged: ' if share else 'is empty: delete it, and fetch it again'
    with pytest.raises(ValueError, match=rf"'.*{WEIGHTS_FILE}' {what}"):
        InertialAR.from_pretrained(saved[1])


def test_damaged_header(saved):
    path = saved[1] / WEIGHTS_FILE
    whole = bytearray(path.read_bytes())
    whole[:40] = bytes(reversed(whole[:40]))
    path.write_bytes(whole)
    with pytest.raises(ValueError, match='is truncated or damaged'):
        InertialAR.from_pretrained(saved[1])


def test_missing_extra_and_misshapen_tensors(saved):
    path = saved[1] / WEIGHTS_FILE
    change_facts(saved[1], sha256=None)
    good = load_file(path)
    bias = next(name for name in good if name.endswith('noise_mlp.0.bias'))
    for tensors, message in [
        ({n: t for n, t in good.items() if n != bias}, rf"the weights in '.*' lack '{bias}'"),
        ({}, r"the weights in '.*' lack ('[\w.]+', ){9}'[\w.]+' and \d+ more$"),
        (good | {'surplus': torch.zeros(1)}, r"the weights in '.*' have unknown 'surplus'"),
        (good | {bias: torch.zeros(5)}, rf"'{bias}' in '.*' must be \(24,\) \(got \(5,\)\)"),
    ]:
        save_file(tensors, path)
        with pytest.raises(ValueError, match=message):
            InertialAR.from_pretrained(saved[1])


class Malice:
    """A pickle that writes a file when it is read."""
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), 'w')


@pytest.mark.parametrize('protocol', range(6))
def test_a_pickle_is_refused_and_not_run(saved, tmp_path, protocol):
    marker, path = tmp_path / 'marker', saved[1] / WEIGHTS_FILE
    path.write_bytes(pickle.dumps(Malice(marker), protocol=protocol))
    message = 'is a pickle or zip archive, which can run code' if protocol >= 2 else 'is truncated or damaged'
    with pytest.raises(ValueError, match=message):
        InertialAR.from_pretrained(saved[1])
    assert not marker.exists()
    pickle.loads(path.read_bytes())  # the marker works
    assert marker.exists()


@pytest.mark.parametrize('zipped', [True, False])
def test_a_torch_archive_is_refused_and_not_run(saved, tmp_path, zipped):
    marker, path = tmp_path / 'marker', saved[1] / WEIGHTS_FILE
    torch.save({'a': Malice(marker)}, path, _use_new_zipfile_serialization=zipped)
    assert zipfile.is_zipfile(path) is zipped
    with pytest.raises(ValueError, match='is a pickle or zip archive, which can run code; weights must be safetensors'):
        InertialAR.from_pretrained(saved[1])
    assert not marker.exists()


@pytest.mark.parametrize('change, message', [
    (lambda facts: {**facts, 'model': 'Quetzal'}, r"holds a model of class 'Quetzal' \(asked for 'InertialAR'\)"),
    (lambda facts: {}, r"holds a model of class 'None' \(asked for 'InertialAR'\)"),
    (lambda facts: [], r"must hold a JSON object \(got list\)"),
    (lambda facts: {**facts, 'config': {**facts['config'], 'depth': 3}}, r"does not describe a InertialAR: .*'depth'"),
    (lambda facts: {**facts, 'config': 3}, r"'config' in '.*config.json' must be an object \(got 3\)"),
    (lambda facts: {**facts, 'sha256': 5}, r"'sha256' in '.*' must be a string \(got 5\)"),
    (lambda facts: {**facts, 'units': 'bohr'}, r"'units' in '.*' must be 'angstrom' \(got 'bohr'\)"),
    (lambda facts: {**facts, 'units': ['angstrom']}, r"'units' in '.*' must be 'angstrom' \(got \['angstrom'\]\)"),
    (lambda facts: {**facts, 'model': ['InertialAR']}, r"holds a model of class '\['InertialAR'\]'"),
    (lambda facts: {'model': 'InertialAR'}, r"does not describe a InertialAR: 'config'"),
    (lambda facts: {**facts, 'config': {**facts['config'], 'heads': 0}}, r"'heads' must be at least 1 \(got 0\)"),
    (lambda facts: {**facts, 'config': {**facts['config'], 'channels': 64}}, r"must be \(.*\) \(got \("),
], ids=range(12))
def test_other_configurations(saved, change, message):
    path = saved[1] / CONFIG_FILE
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ValueError, match=message):
        InertialAR.from_pretrained(saved[1])


@pytest.mark.parametrize('text', [b'{"model": ', b'\xff\xfe\x00'], ids=['torn', 'binary'])
def test_unreadable_configuration(saved, text):
    (saved[1] / CONFIG_FILE).write_bytes(text)
    with pytest.raises(ValueError, match=rf"'.*{CONFIG_FILE}' is truncated or damaged \(.+\): delete it, and fetch it"):
        InertialAR.from_pretrained(saved[1])


@pytest.mark.parametrize('name', [CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize('content, what', [
    (b'', 'is empty'), (b'<!DOCTYPE html><html>moved', 'is a web page, not the file that was to be downloaded')])
def test_what_a_download_left_in_the_place_of_a_file(saved, name, content, what):
    (saved[1] / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"'.*{name}' {what}: delete it, and fetch it again"):
        InertialAR.from_pretrained(saved[1])


def test_files_that_are_not_there(saved, tmp_path):
    (saved[1] / WEIGHTS_FILE).unlink()
    with pytest.raises(ValueError, match=rf"there is no weights file '.*{WEIGHTS_FILE}'"):
        InertialAR.from_pretrained(saved[1])
    (saved[1] / CONFIG_FILE).unlink()
    with pytest.raises(ValueError, match=rf"'.*' holds no model: .*{CONFIG_FILE}"):
        InertialAR.from_pretrained(saved[1])


@pytest.mark.parametrize('name', ['no-such-model', 'a/b/c', '/no/such/folder'])
def test_unknown_names(name):
    with pytest.raises(ValueError, match=rf"must be a bundled model \(.*\), a folder, or a hub id \(got '{name}'\)"):
        InertialAR.from_pretrained(name)


def test_a_hub_id_without_the_hub():
    message = r"'some/model' is no folder here, and the hub needs huggingface_hub: pip install '.*\[hub\]'; bundled are"
    with patch.dict(sys.modules, {'huggingface_hub': None}), pytest.raises(ValueError, match=message):
        InertialAR.from_pretrained('some/model')


def test_the_base_class_loads_whatever_generator_it_is(saved):
    loaded = AtomAutoregressor.from_pretrained(saved[1])
    assert type(loaded) is InertialAR and loaded.config == saved[0].config
