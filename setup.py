r"""Builds the extension ``torch_geometric_inertial._C`` against LibTorch's stable ABI: one binary serves every
torch from 2.10 and every Python from 3.10. ``FORCE_CUDA=0|1`` is kept for the CUDA library.
"""
from glob import glob

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CppExtension

extension = CppExtension(
    'torch_geometric_inertial._C',
    sources=['csrc/ops.cpp', *sorted(glob('csrc/cpu/*.cpp'))],
    depends=sorted(glob('csrc/**/*.h', recursive=True)),
    extra_compile_args=['-O3', '-std=c++17', '-Wall', '-DTORCH_TARGET_VERSION=0x020a000000000000'],
    py_limited_api=True,
)

setup(
    ext_modules=[extension],
    cmdclass={'build_ext': BuildExtension},
    options={'bdist_wheel': {'py_limited_api': 'cp310'}},
)
