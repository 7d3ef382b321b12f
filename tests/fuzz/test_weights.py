r"""Mutated folders of weights and checkpoints, and configurations with fields of any type: what is read is right, and
what is not is a ``ValueError``.

``INERTIAL_FUZZ_SECONDS=600 pytest tests/fuzz`` goes on for so long, per kind.
"""
import json
import random
import shutil
import time
import warnings

import pytest
import torch

from torch_geometric_inertial import GeoMFormer, InertialAR
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, WEIGHTS_FILE
from torch_geometric_inertial.training import load_checkpoint, save_checkpoint

VALUES = [None, True, False, 0, -1, 1, 7, 2**31, 2**70, 0.5, -0.0, 1e400, float('nan'), '', 'x', 'smiles', '9' * 5000,
          [], [1], [6, 6], [1, 6, 7, 8, 9], [[1]], [None], {}, {'a': 1}]


def mutated(content: bytes, rng: random.Random) -> bytes:
    a, b = sorted(rng.randint(0, len(content)) for _ in range(2))
    part = bytearray(content)
    kind = rng.randrange(5)
    if kind == 0:
        return content[:a]
    if kind == 1:
        return content[:a] + content[min(b, a + rng.randint(1, 64)):]
    if kind == 2:
        return content[:a] + rng.randbytes(rng.randint(1, 64)) + content[a:]
    if kind == 3:
        part[a:b] = bytes(b - a)
    else:
        part[min(a, len(part) - 1)] ^= 1 << rng.randrange(8)
    return bytes(part)


@pytest.mark.parametrize('hashed', [True, False], ids=['hashed', 'without hash'])
def test_broken_weights_are_read_or_named(tmp_path, hashed, cases):
    torch.manual_seed(0)
    model = GeoMFormer(channels=8, heads=1, num_layers=1)
    folder = model.save_pretrained(tmp_path / 'model')
    facts = json.loads((folder / CONFIG_FILE).read_text())
    if not hashed:
        del facts['sha256']
    (folder / CONFIG_FILE).write_text(json.dumps(facts))
    content, own = (folder / WEIGHTS_FILE).read_bytes(), model.state_dict()
    for rng in cases(150):
        broken = mutated(content, rng)
        (folder / WEIGHTS_FILE).write_bytes(broken)
        began = time.process_time()
        try:
            found = GeoMFormer.from_pretrained(folder).state_dict()
        except ValueError:
            assert broken != content
        else:
            assert not hashed or broken == content  # a flipped bit is found where the hash is known
            assert {name: x.shape for name, x in found.items()} == {name: x.shape for name, x in own.items()}
        assert time.process_time() - began < 2


def test_broken_checkpoints_are_passed_over(tmp_path, cases):
    for step in (1, 2):
        path = save_checkpoint(dict(step=step, model=dict(weight=torch.full((20, 20), float(step)))), tmp_path)
    hashes = path.with_name(f'{path.name}.sha256')
    originals = {path: path.read_bytes(), hashes: hashes.read_bytes()}
    for rng in cases(150):
        which = rng.choice([path, path, hashes])
        for name, content in originals.items():
            name.write_bytes(mutated(content, rng) if name == which else content)
        changed = any(name.read_bytes() != content for name, content in originals.items())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            found = load_checkpoint(tmp_path)
        # the step and the numbers belong together, whichever it is, and the older one comes with a word
        assert found['step'] in (1, 2) and bool((found['model']['weight'] == found['step']).all())
        assert found['step'] == 2 or (changed and caught)
    shutil.rmtree(tmp_path)


@pytest.mark.parametrize('kind', [InertialAR, GeoMFormer], ids=lambda kind: kind.__name__)
def test_a_configuration_of_anything_is_a_configuration_or_refused(kind, cases):
    config = kind.config_class
    tiny = config.preset('tiny' if kind is InertialAR else 'n_body').to_dict()
    for rng in cases(2000):
        fields = dict(tiny)
        for name in rng.sample(sorted(fields), rng.randint(1, 3)):
            fields[name] = rng.choice(VALUES)
        began = time.process_time()
        try:
            made = config(**fields)
        except ValueError as error:
            assert "'" in str(error) and len(str(error)) < 1000  # names the field, in a line that can be read
        else:
            assert config(**json.loads(json.dumps(made.to_dict()))) == made
        assert time.process_time() - began < 1


@pytest.mark.parametrize('text', [True, False], ids=['bytes', 'fields'])
def test_a_broken_config_json_is_read_or_named(tmp_path, text, cases):
    torch.manual_seed(0)
    folder = GeoMFormer(channels=8, heads=1, num_layers=1).save_pretrained(tmp_path / 'model')
    content = (folder / CONFIG_FILE).read_bytes()
    for rng in cases(200):
        if text:
            (folder / CONFIG_FILE).write_bytes(mutated(content, rng))
        else:
            facts = json.loads(content)
            place = rng.choice([facts, facts['config'], facts['config']])
            place[rng.choice(sorted(place))] = rng.choice(VALUES)
            (folder / CONFIG_FILE).write_text(json.dumps(facts))
        began = time.process_time()
        try:
            GeoMFormer.from_pretrained(folder)
        except ValueError as error:
            assert len(str(error)) < 20_000
        assert time.process_time() - began < 2
