"""Every CUDA source compiles, with the headers of any torch and no GPU; registers and spills are printed (``-s``)."""
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from torch.utils.cpp_extension import include_paths

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / 'csrc' / 'cuda').glob('*.cu'))
# Kernels whose accumulators fill the register file keep a few words in local memory: bytes that may spill, at most.
FULL = {r'georope_backwardI.*Li128E': 512, r'georope_backwardIfLi64E': 128}

needs_source = pytest.mark.skipif(not SOURCES, reason='the sources are not here')
needs_nvcc = pytest.mark.skipif(shutil.which('nvcc') is None, reason='nvcc was not found')


def compiled(source: Path, architecture: int, folder: Path) -> dict[str, tuple[int, int]]:
    """Registers and bytes spilled of every kernel of a source."""
    done = subprocess.run(
        ['nvcc', '-std=c++17', '-O3', '-DUSE_CUDA', '-DTORCH_TARGET_VERSION=0x020a000000000000',
         *(f'-I{path}' for path in include_paths()), f'-gencode=arch=compute_{architecture},code=sm_{architecture}',
         '-Xptxas', '-v', '-c', str(source), '-o', str(folder / 'kernels.o')], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return resources(done.stderr)


def resources(report: str) -> dict[str, tuple[int, int]]:
    pattern = (r"Compiling entry function '(?P<kernel>\w+)'.*?(?P<spilled>\d+) bytes spill stores.*?"
               r"Used (?P<registers>\d+) registers")
    return {match['kernel']: (int(match['registers']), int(match['spilled']))
            for match in re.finditer(pattern, report, flags=re.DOTALL)}


def spilling(kernels: dict[str, tuple[int, int]]) -> dict[str, int]:
    """What spills more than it may."""
    allowed = {kernel: max([most for name, most in FULL.items() if re.search(name, kernel)], default=0)
               for kernel in kernels}
    return {kernel: spilled for kernel, (_, spilled) in kernels.items() if spilled > allowed[kernel]}


@pytest.mark.cuda_compile
@needs_source
@needs_nvcc
@pytest.mark.parametrize('architecture', [pytest.param(80, marks=pytest.mark.slow), 90])
@pytest.mark.parametrize('source', SOURCES, ids=lambda path: path.stem)
def test_compiles_without_spills(source, architecture, tmp_path):
    kernels = compiled(source, architecture, tmp_path)
    print(f'\n{source.name} for sm_{architecture}: registers, bytes spilled')
    for kernel, (registers, spilled) in sorted(kernels.items()):
        print(f'{registers:5d} {spilled:5d}  {kernel}')
    assert kernels and not spilling(kernels)


def test_a_spill_is_read_from_the_report():
    report = """ptxas info    : Compiling entry function 'one' for 'sm_90'
ptxas info    : Function properties for one
    16 bytes stack frame, 16 bytes spill stores, 20 bytes spill loads
ptxas info    : Used 128 registers, used 0 barriers, 16 bytes cumulative stack size
ptxas info    : Compiling entry function 'two' for 'sm_90'
    0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 30 registers"""
    assert resources(report) == {'one': (128, 16), 'two': (30, 0)}
    assert spilling(resources(report)) == {'one': 16}
