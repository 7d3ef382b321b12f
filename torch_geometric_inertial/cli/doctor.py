from __future__ import annotations

import platform
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

import torch_geometric_inertial.ops  # noqa: F401 (registers the operators and their examples)
from torch_geometric_inertial.ops.library import COMPILED, EXAMPLES, KERNELS

#: The largest difference from the float64 definition that a float32 operator may show, in units of its largest entry.
TOLERANCE = 1e-4


def doctor() -> None:
    r"""Says which compiled operators run here, and checks every operator against its definition.

    Example: inertial doctor

    Raises:
        ValueError: If an operator is wrong.
    """
    try:
        own = version('torch_geometric_inertial')
    except PackageNotFoundError:
        own = '(not installed)'
    print(f'torch_geometric_inertial {own}, Python {platform.python_version()}, {platform.platform()}')
    print(f'torch {torch.__version__}, {torch.get_num_threads()} thread(s)')
    devices = ['cpu']
    if torch.cuda.is_available():
        devices.append('cuda')
        major, minor = torch.cuda.get_device_capability()
        print(f'CUDA {torch.version.cuda}, {torch.cuda.get_device_name()} (sm_{major}{minor})')
    else:
        print('CUDA: none')
    if COMPILED:
        level = ('portable', 'AVX2', 'AVX-512')[torch.ops.inertial.cpu_capability()]
        print(f'CPU kernels use {level} instructions')
    else:
        print('the compiled operators were not built: pip install --no-build-isolation -e .')
    print(f'\n{"operator":22}{"device":8}{"runs on":10}{"error":>9}')
    wrong = []
    for device in devices:
        for name, error in self_check(torch.device(device)):
            how, good = 'kernel' if name in KERNELS[device] else 'PyTorch', error <= TOLERANCE
            print(f'{name:22}{device:8}{how:10}{error:9.1e}  {"good" if good else "WRONG"}')
            if not good:
                wrong.append(f'{name} on {device}')
    if wrong:
        raise ValueError(f"these operators differ from their definitions: {', '.join(wrong)}")


def self_check(device: torch.device) -> Iterator[tuple[str, float]]:
    r"""Every operator with its distance from the definition, in float32 with derivatives where it has some.

    The distance is the largest over outputs, gradients and tensors written in place, relative to the largest entry.
    """
    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(device)

    for name, make in EXAMPLES.items():
        generator = torch.Generator().manual_seed(0)
        found = make(normal, device)
        yield name, distance(found.op, found.reference, *found.inputs, derivatives=found.derivatives)


def distance(op: Callable[..., Tensor], reference: Callable[..., Tensor], *inputs: Tensor,
             derivatives: bool = True) -> float:
    r"""How far a float32 operator is from its float64 definition: outputs, inputs afterwards, gradients if wanted."""
    def everything(call: Callable[..., Tensor], dtype: torch.dtype) -> list[Tensor]:
        copies = [x.to(dtype, copy=True) if x.is_floating_point() else x for x in inputs]
        needed = [x.requires_grad_() for x in copies if derivatives and x.is_floating_point()]
        out = call(*copies)
        grads = torch.autograd.grad(out.sin().sum(), needed) if needed else ()
        return [out.detach(), *(x.detach() for x in copies), *grads]

    pairs = zip(everything(op, torch.float32), everything(reference, torch.float64), strict=True)
    return float(torch.stack([(a - b).abs().max() / b.abs().max().clamp(min=1) for a, b in pairs]).max())  # or NaN
