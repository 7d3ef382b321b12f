r"""Loads the compiled operators, ``torch.ops.inertial.*``, or says once that they are not there."""
import warnings
from collections.abc import Callable
from functools import cache, wraps
from typing import NamedTuple

import torch
from torch import Tensor

try:
    import torch_geometric_inertial._C  # type: ignore[import-not-found]
    COMPILED = True
except ImportError as error:
    COMPILED = False
    warnings.warn(
        f"torch_geometric_inertial runs without its compiled operators, on slower PyTorch code ({error}). "
        "To build them: pip install --no-build-isolation -e .",
        stacklevel=2,
    )

CUDA_ERROR = 'no compiled operators at all'  #: Why the CUDA kernels are not there, where they are not.
if COMPILED:
    try:
        import torch_geometric_inertial._CUDA  # type: ignore[import-not-found]  # noqa: F401
        CUDA_ERROR = ''
    except ImportError as error:
        CUDA_ERROR = str(error)

#: The operators that have a kernel on each type of device.
KERNELS = {
    device: frozenset(name.removeprefix('inertial::') for name in torch._C._dispatch_get_all_op_names()
                      if name.startswith('inertial::')
                      and torch._C._dispatch_has_kernel_for_dispatch_key(name, device.upper()))
    for device in ('cpu', 'cuda')
}
#: The floating-point types that those kernels take.
TYPES = {
    'cpu': (torch.float32, torch.float64, torch.bfloat16),
    'cuda': (torch.float32, torch.bfloat16, torch.float16),
}
#: Operators that take others.
OWN_TYPES = {'segment_sum': (torch.float32, torch.float64, torch.int64)}


def has_kernel(op: str, x: Tensor) -> bool:
    r"""Whether the operator runs compiled on tensors like :obj:`x`. Every operator asks this before it is called, and
    falls back to its definition, ``<op>_ref``; one warning says where kernels are missing altogether."""
    device = x.device.type
    if device == 'cuda' and COMPILED and CUDA_ERROR and not torch.compiler.is_compiling():
        warn_of_missing_cuda()
    return op in KERNELS.get(device, ()) and x.dtype in OWN_TYPES.get(op, TYPES[device])


def register_fake(op: str) -> Callable[[Callable], Callable]:
    r""":func:`torch.library.register_fake` for an operator of this package, whose tensors must be on one device:
    PyTorch asks the fake for a mixture of real tensors and those of the meta device, too.

    Raises:
        RuntimeError: When the operator is called with tensors on several devices.
    """
    def register(fake: Callable) -> Callable:
        @wraps(fake)
        def checked(*args):
            devices = {str(x.device): None for x in args if isinstance(x, Tensor)}
            if len(devices) > 1:
                raise RuntimeError(f"{op}: expected all tensors on one device (got {', '.join(devices)})")
            return fake(*args)

        torch.library.register_fake(f'inertial::{op}')(checked)
        return fake
    return register


class Example(NamedTuple):
    r"""Inputs for which an operator must be what its definition is; derivatives too, unless it has none."""
    op: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    derivatives: bool = True


#: Name of an operator -> what makes its example on a device, with a function that gives normal numbers of a shape.
EXAMPLES: dict[str, Callable[[Callable[..., Tensor], torch.device], Example]] = {}


def example(op: str) -> Callable[[Callable], Callable]:
    r"""Registers the example of an operator, by which ``inertial doctor`` checks it."""
    def register(make: Callable) -> Callable:
        EXAMPLES[op] = make
        return make
    return register


@cache
def warn_of_missing_cuda() -> None:
    """Says once, and not before a tensor is on a GPU, that it will run on slower PyTorch code."""
    warnings.warn(
        f"torch_geometric_inertial runs without its CUDA kernels, on slower PyTorch code ({CUDA_ERROR}). "
        "To build them, with a CUDA build of PyTorch and nvcc: FORCE_CUDA=1 pip install --no-build-isolation -e .",
        stacklevel=4,
    )
