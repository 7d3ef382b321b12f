import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """The folder of real data: what INERTIAL_DATA names, else ../shared/data beside the repository."""
    folder = Path(os.environ.get('INERTIAL_DATA', Path(__file__).parents[2] / 'shared' / 'data'))
    if not folder.is_dir():
        pytest.skip("no folder of real data (INERTIAL_DATA names another than ../shared/data)")
    return folder


@pytest.fixture(scope='session')
def cuda_on_cpu(tmp_path_factory):
    """The CUDA kernels as a program that runs on the CPU."""
    if shutil.which('g++') is None:
        pytest.skip('needs g++')
    path = tmp_path_factory.mktemp('cuda_on_cpu') / 'run_kernels'
    subprocess.run(['g++', '-std=c++17', '-O1', '-Wall', '-Werror', '-Wno-unknown-pragmas',
                    str(Path(__file__).parent / 'cuda_on_cpu' / 'run_kernels.cpp'), '-o', str(path)], check=True)
    return path


@pytest.fixture(params=['forwards', 'backwards'])
def run_cuda_on_cpu(cuda_on_cpu, tmp_path, request):
    """Calls an op's kernels: run(op, dtype, inputs) -> the arrays they wrote, every element of which began as NaN."""
    def run(op: str, dtype: torch.dtype, inputs: dict) -> dict:
        with open(tmp_path / 'in', 'wb') as file:
            for name, value in inputs.items():
                value = value.contiguous() if torch.is_tensor(value) else torch.tensor(
                    value, dtype=torch.float32 if isinstance(value, float) else torch.int64)
                data = value.reshape(-1).view(torch.uint8).numpy().tobytes()
                file.write(f'{name} {len(data)}\n'.encode() + data)
        name = str(dtype).removeprefix('torch.')
        done = subprocess.run([cuda_on_cpu, op, name, tmp_path / 'in', tmp_path / 'out', request.param],
                              capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f'{op} ended with {done.returncode}: {done.stderr}'
        data, out = (tmp_path / 'out').read_bytes(), {}
        while data:
            head, data = data.split(b'\n', 1)
            name, size = head.split()
            out[name.decode()] = torch.frombuffer(bytearray(data[:int(size)]) or bytearray(1), dtype=torch.uint8)
            data = data[int(size):]
        return out
    return run
