import os
import subprocess
import sys

import pytest
import torch

from torch_geometric_inertial.ops.library import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason='the extension was not built')
LEVELS = ['portable', 'avx2', 'avx512']


def ulps(x, exact):
    """Error in units of the last place of the exact value, float64."""
    exact = exact.to(torch.float64)
    spacing = torch.finfo(x.dtype).eps * torch.exp2(exact.abs().clamp(min=1e-30).log2().floor())
    return ((x.double() - exact).abs() / spacing).max().item()


def check_elementary_functions():
    """Of the level that this process runs at; float64 is held against PyTorch's own, itself good to 1 ulp."""
    ops = torch.ops.inertial
    x = torch.cat([torch.linspace(-87.3, 88, 200_003), torch.randn(20_001) * 1e-3, torch.zeros(1)])
    assert ulps(ops.simd_exp(x), x.double().exp()) < 2
    x = torch.linspace(-708, 709, 200_003, dtype=torch.float64)
    assert ulps(ops.simd_exp(x), x.exp()) < 3
    low = torch.tensor([-88.0, -1e30, -float('inf')])
    assert ops.simd_exp(low).tolist() == [0, 0, 0]
    assert ops.simd_exp(low.double() * 10).tolist() == [0, 0, 0]
    assert ops.simd_exp(torch.tensor([float('nan')])).isnan().all()
    x = torch.cat([torch.linspace(-80, 80, 100_003, dtype=torch.float64).exp(),
                   torch.linspace(0.5, 2, 100_003, dtype=torch.float64)])
    assert ulps(ops.simd_log(x), x.log()) < 3
    x = x.float()
    assert ulps(ops.simd_log(x), x.double().log()) < 2.5
    x = torch.linspace(-1e5, 1e5, 1_000_003, dtype=torch.float64)
    sine, cosine = ops.simd_sincos(x)
    assert max((sine - x.sin()).abs().max(), (cosine - x.cos()).abs().max()) < 4e-16


@pytest.mark.parametrize('level', LEVELS)
def test_accuracy_of_each_instruction_set(level):
    code = ('import sys, torch; sys.path.insert(0, sys.argv[1]); import test_simd; '
            'test_simd.check_elementary_functions(); print(torch.ops.inertial.cpu_capability())')
    done = subprocess.run([sys.executable, '-c', code, os.path.dirname(__file__)], capture_output=True, text=True,
                          env=os.environ | {'INERTIAL_CPU_CAPABILITY': level})
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == min(LEVELS.index(level), torch.ops.inertial.cpu_capability())


def test_an_unknown_instruction_set_is_refused():
    code = 'import torch, torch_geometric_inertial.ops; torch.ops.inertial.cpu_capability()'
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True,
                          env=os.environ | {'INERTIAL_CPU_CAPABILITY': 'sse9'})
    assert 'INERTIAL_CPU_CAPABILITY must be portable, avx2 or avx512 (got sse9)' in done.stderr


@pytest.mark.parametrize('size', range(0, 35))
def test_every_length_of_the_tail(size):
    x = torch.randn(size)
    torch.testing.assert_close(torch.ops.inertial.simd_exp(x), x.exp())


@pytest.mark.parametrize('op, x, message', [
    ('simd_exp', torch.ones(1).half(), r'simd: expected x of float32 or float64 \(got float16\)'),
    ('simd_sincos', torch.ones(1), r'simd: expected x of float64 \(got float32\)'),
])
def test_bad_arguments(op, x, message):
    with pytest.raises(RuntimeError, match=message):
        getattr(torch.ops.inertial, op)(x)
