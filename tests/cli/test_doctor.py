import subprocess
import sys
from importlib import import_module

import pytest
import torch

from torch_geometric_inertial import ops
from torch_geometric_inertial.cli.doctor import TOLERANCE, doctor, self_check
from torch_geometric_inertial.cli.main import main
from torch_geometric_inertial.ops.library import COMPILED, KERNELS


def test_every_operator_is_checked_and_good():
    errors = dict(self_check(torch.device('cpu')))
    public = {name.removesuffix('_ref') for name in ops.__all__ if name.endswith('_ref')}
    assert set(errors) == public
    assert all(0 <= error < TOLERANCE / 10 for error in errors.values())


def test_the_check_changes_no_global_state():
    state = torch.random.get_rng_state()
    for _ in self_check(torch.device('cpu')):
        assert torch.is_grad_enabled()
    assert torch.equal(torch.random.get_rng_state(), state)


def test_what_it_says(capsys):
    doctor()
    out = capsys.readouterr().out
    assert f'torch {torch.__version__}' in out and ('CUDA: none' in out) != torch.cuda.is_available()
    assert ('CPU kernels use ' in out) == COMPILED
    for line in out.splitlines():
        if line.startswith('rope_rotate'):
            how = 'kernel' if 'rope_rotate' in KERNELS[line.split()[1]] else 'PyTorch'
            assert line.split()[2] == how and line.endswith('good')


@pytest.mark.parametrize('fault', [
    lambda x, phase: ops.rope_rotate_ref(x, phase) + 1e-3,  # the output
    lambda x, phase: ops.rope_rotate_ref(x, phase.detach() + 0 * phase),  # a gradient
    lambda x, phase: ops.rope_rotate_ref(x, phase) * torch.nan,
])
def test_a_wrong_operator_is_named(fault, monkeypatch, capsys):
    monkeypatch.setattr(import_module('torch_geometric_inertial.ops.rope_rotate'), 'rope_rotate', fault)
    with pytest.raises(ValueError, match='these operators differ from their definitions: rope_rotate on cpu'):
        doctor()
    assert capsys.readouterr().out.count('WRONG') == 1
    assert main(['doctor']) == 1


def test_a_wrong_write_in_place_is_seen(monkeypatch):
    def fault(q, k, v, gram, gain, slot, key, value):
        return ops.georope_decode_ref(q, k, v, gram, gain, slot, key.clone(), value)

    monkeypatch.setattr(import_module('torch_geometric_inertial.ops.georope_decode'), 'georope_decode', fault)
    assert dict(self_check(torch.device('cpu')))['georope_decode'] > TOLERANCE


def test_as_a_module():
    result = subprocess.run([sys.executable, '-m', 'torch_geometric_inertial', 'doctor'], capture_output=True,
                            text=True)
    assert result.returncode == 0, result.stderr
    assert 'georope_decode' in result.stdout
