r"""Builds the extension ``torch_geometric_inertial._C`` against LibTorch's stable ABI: one binary serves every
torch from 2.10 and every Python from 3.10. The CUDA kernels are a library of their own, ``_CUDA``, built where torch is
a CUDA build and nvcc is found; ``FORCE_CUDA=0`` leaves them out, ``FORCE_CUDA=1`` insists on them.
``TORCH_CUDA_ARCH_LIST`` chooses other architectures than sm_80, sm_90 and PTX for later ones.
"""
import os
from glob import glob
from shutil import which

import torch
from setuptools import setup
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension

STABLE_ABI = '-DTORCH_TARGET_VERSION=0x020a000000000000'
HEADERS = sorted(glob('csrc/**/*.h', recursive=True) + glob('csrc/**/*.cuh', recursive=True))


def with_cuda() -> bool:
    forced = os.environ.get('FORCE_CUDA', '')
    if forced not in ('', '0', '1'):
        raise SystemExit(f"FORCE_CUDA must be 0 or 1 (got '{forced}')")
    possible = torch.version.cuda is not None and CUDA_HOME is not None and (
        which('nvcc', path=os.path.join(CUDA_HOME, 'bin')) is not None)  # a folder of libraries alone has none
    if forced == '1' and not possible:
        raise SystemExit(f'FORCE_CUDA=1 needs a CUDA build of torch (got {torch.__version__}) and nvcc '
                         f'(CUDA_HOME is {CUDA_HOME})')
    return possible and forced != '0'


extensions = [CppExtension(
    'torch_geometric_inertial._C',
    sources=['csrc/ops.cpp', *sorted(glob('csrc/cpu/*.cpp'))],
    depends=HEADERS,
    extra_compile_args=['-O3', '-std=c++17', '-Wall', STABLE_ABI],
    py_limited_api=True,
)]
if with_cuda():
    architectures = [] if 'TORCH_CUDA_ARCH_LIST' in os.environ else [
        '-gencode=arch=compute_80,code=sm_80', '-gencode=arch=compute_90,code=sm_90',
        '-gencode=arch=compute_90,code=compute_90']
    extensions.append(CUDAExtension(
        'torch_geometric_inertial._CUDA',
        sources=sorted(glob('csrc/cuda/*.cu') + glob('csrc/cuda/*.cpp')),
        depends=HEADERS,
        extra_compile_args={
            'cxx': ['-O3', '-std=c++17', '-DUSE_CUDA', STABLE_ABI],
            'nvcc': ['-O3', '-std=c++17', '-DUSE_CUDA', STABLE_ABI, *architectures],
        },
        py_limited_api=True,
    ))

setup(
    ext_modules=extensions,
    cmdclass={'build_ext': BuildExtension},
    options={'bdist_wheel': {'py_limited_api': 'cp310'}},
)
