import warnings
from types import SimpleNamespace

import pytest
import torch

from torch_geometric_inertial.ops import library

needs_compiled = pytest.mark.skipif(not library.COMPILED, reason='the extension was not built')


def on(device, dtype=torch.float32):
    return SimpleNamespace(device=torch.device(device), dtype=dtype)


@needs_compiled
def test_types_that_kernels_take():
    assert library.has_kernel('rope_rotate', on('cpu', torch.float64))
    assert not library.has_kernel('rope_rotate', on('cpu', torch.float16))
    assert not library.has_kernel('no_such_operator', on('cpu'))
    assert not library.has_kernel('rope_rotate', on('meta'))


@needs_compiled
def test_one_warning_for_tensors_on_a_gpu_without_cuda_kernels(monkeypatch):
    monkeypatch.setattr(library, 'CUDA_ERROR', 'no module of that name')
    monkeypatch.setitem(library.KERNELS, 'cuda', frozenset())
    library.warn_of_missing_cuda.cache_clear()
    with pytest.warns(UserWarning, match=r'without its CUDA kernels.*no module of that name.*FORCE_CUDA=1') as caught:
        assert not library.has_kernel('rope_rotate', on('cuda'))
        assert not library.has_kernel('rope_rotate', on('cuda'))
    assert len(caught) == 1
    library.warn_of_missing_cuda.cache_clear()


def test_no_warning_for_tensors_on_the_cpu():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        library.has_kernel('rope_rotate', on('cpu'))
