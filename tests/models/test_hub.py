import json
import sys
from unittest.mock import patch

import pytest
import torch
import yaml
from helpers.hub_server import hub_server

from torch_geometric_inertial import InertialAR
from torch_geometric_inertial.models.pretrained import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE

hub_constants = pytest.importorskip('huggingface_hub.constants')


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with hub_server() as (server, address):
        monkeypatch.setattr(hub_constants, 'ENDPOINT', address)
        monkeypatch.setattr(hub_constants, 'HUGGINGFACE_CO_URL_TEMPLATE',
                            address + '/{repo_id}/resolve/{revision}/{filename}')
        monkeypatch.setattr(hub_constants, 'HF_HUB_CACHE', str(tmp_path / 'cache'))
        monkeypatch.setenv('HF_TOKEN', 'hf_of_nobody')
        yield server


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = InertialAR(bonds=False, elements=(1, 6, 8), channels=16, heads=2, type_layers=1, coord_layers=1,
                       head_channels=16, head_layers=1).eval()
    model.training_record = dict(steps=3)
    return model


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_a_model_comes_back_as_it_was_with_its_card(hub, model):
    commit = model.push_to_hub('owner/own-model', license='MIT')
    files = hub.files('owner/own-model', 'main')
    assert {CONFIG_FILE, WEIGHTS_FILE, CARD_FILE} < set(files)
    front = yaml.safe_load(files[CARD_FILE].decode().split('---')[1])
    assert front['license'] == 'mit' and front['library_name'] == 'torch_geometric_inertial'
    for loaded in (InertialAR.from_pretrained('owner/own-model'), InertialAR.from_hub('owner/own-model'),
                   InertialAR.from_pretrained(f'owner/own-model@{commit}')):
        assert loaded.config == model.config and equal(loaded, model) and not loaded.training


def test_a_pinned_commit_stays_and_a_branch_is_apart(hub, model):
    first = model.push_to_hub('owner/own-model')
    other = InertialAR(model.config)
    other.push_to_hub('owner/own-model', commit_message='other numbers')
    assert equal(InertialAR.from_hub('owner/own-model', revision=first), model)
    assert equal(InertialAR.from_hub('owner/own-model'), other)
    third = InertialAR(model.config)
    third.push_to_hub('owner/own-model', revision='trial')
    assert equal(InertialAR.from_pretrained('owner/own-model@trial'), third)
    assert equal(InertialAR.from_hub('owner/own-model'), other)


def test_what_was_fetched_is_there_without_the_network(hub, model, monkeypatch):
    model.push_to_hub('owner/own-model')
    InertialAR.from_hub('owner/own-model')
    monkeypatch.setattr(hub_constants, 'HF_HUB_OFFLINE', True)
    asked = len(hub.requests)
    assert equal(InertialAR.from_hub('owner/own-model'), model)
    assert len(hub.requests) == asked
    with pytest.raises(ValueError, match="'owner/never-fetched' cannot be fetched from the hub"):
        InertialAR.from_hub('owner/never-fetched')


def test_weights_that_are_not_those_of_the_configuration(hub, model):
    model.push_to_hub('owner/own-model')
    content = bytearray(hub.files('owner/own-model', 'main')[WEIGHTS_FILE])
    content[-1] ^= 1
    hub.commit('owner/own-model', 'main', {WEIGHTS_FILE: bytes(content)})
    with pytest.raises(ValueError, match=f"'.*{WEIGHTS_FILE}' is truncated or damaged: .*SHA-256"):
        InertialAR.from_hub('owner/own-model')


def test_what_is_not_there(hub, model):
    with pytest.raises(ValueError, match=r"'owner/nothing' is no folder here, and 'owner/nothing' cannot be fetched "
                                         r'from the hub \(.+\); bundled are .*qm9'):
        InertialAR.from_pretrained('owner/nothing')
    model.push_to_hub('owner/own-model')
    with pytest.raises(ValueError, match=r"'owner/own-model@nowhere' cannot be fetched from the hub \(.+\)$"):
        InertialAR.from_hub('owner/own-model', revision='nowhere')
    hub.commit('owner/empty', 'main', {'notes.txt': b'no model'})
    with pytest.raises(ValueError, match=rf"holds no model: .*{CONFIG_FILE}"):
        InertialAR.from_hub('owner/empty')
    hub.commit('owner/other', 'main', {CONFIG_FILE: json.dumps(dict(model='Other')).encode(), WEIGHTS_FILE: b''})
    with pytest.raises(ValueError, match="holds a model of class 'Other'"):
        InertialAR.from_hub('owner/other')


def test_a_hub_that_answers_with_a_page(hub, model):
    hub.page = b'<!DOCTYPE html><html>Log in to the network of the hotel</html>'
    with pytest.raises(ValueError, match=r"'owner/own-model' cannot be fetched from the hub \(.+\)$"):
        InertialAR.from_hub('owner/own-model')
    with pytest.raises(ValueError, match=r"'owner/own-model' cannot be written to on the hub \(.+\)$"):
        model.push_to_hub('owner/own-model')


def test_a_hub_that_cannot_be_reached(model, monkeypatch, tmp_path):
    monkeypatch.setattr(hub_constants, 'ENDPOINT', 'http://127.0.0.1:9')  # the port that discards
    monkeypatch.setattr(hub_constants, 'HF_HUB_CACHE', str(tmp_path))
    with pytest.raises(ValueError, match=r"'some/model' is no folder here, and 'some/model' cannot be fetched from the "
                                         r'hub \(.+\); bundled are'):
        InertialAR.from_pretrained('some/model')


@pytest.mark.parametrize('repo_id', ['own-model', 'a/b/c', 'owner/own model', 'owner/model@main', ''])
def test_names_that_are_none(model, repo_id):
    with pytest.raises(ValueError, match=r"'repo_id' must be 'owner/name' \(got '"):
        model.push_to_hub(repo_id)
    if '@' not in repo_id:
        with pytest.raises(ValueError, match="a hub id must be 'owner/name' or 'owner/name@revision'"):
            InertialAR.from_hub(repo_id)


def test_without_the_library(model):
    with patch.dict(sys.modules, {'huggingface_hub': None}):
        for use in (lambda: model.push_to_hub('owner/model'), lambda: InertialAR.from_hub('owner/model')):
            with pytest.raises(ValueError, match=r"the hub needs huggingface_hub: pip install '.*\[hub\]'"):
                use()
