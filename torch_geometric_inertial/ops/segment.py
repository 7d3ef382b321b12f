r"""Sums over the rows of each segment of a packed tensor."""
from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake

try:
    import torch_scatter
except (ImportError, OSError):  # not installed, or built for another torch
    torch_scatter = None


def segment_index(ptr: Tensor, size: int) -> Tensor:
    """The segment of each of :obj:`size` rows: int64 [size]."""
    segments = torch.arange(ptr.numel() - 1, device=ptr.device)
    return torch.repeat_interleave(segments, ptr.diff(), output_size=size)


def segment_sum_ref(src: Tensor, ptr: Tensor) -> Tensor:
    r"""The definition of :func:`segment_sum`, in plain PyTorch."""
    out = src.new_zeros(ptr.numel() - 1, *src.shape[1:])
    return out.index_add(0, segment_index(ptr, src.size(0)), src)


def segment_sum(src: Tensor, ptr: Tensor) -> Tensor:
    r"""Sums the rows of each segment,

    .. math:: \mathrm{out}_b = \sum_{t=\mathrm{ptr}_b}^{\mathrm{ptr}_{b+1}-1} \mathrm{src}_t .

    Differentiable any number of times. Runs on the compiled operator (float32, float64, int64), whose result does not
    depend on the number of threads and which is the fastest by ``benchmarks/bench_segment.py``, else on
    :obj:`torch_scatter` where it is installed, else on :func:`segment_sum_ref`.

    Args:
        src: Rows [T, ...].
        ptr: Offsets [B + 1] of the segments, int64, from 0 to T, not decreasing.

    Raises:
        ValueError: If the shapes or the offsets are wrong (offsets on an accelerator are not read).
    """
    _check(src, ptr)
    if has_kernel('segment_sum', src):
        return torch.ops.inertial.segment_sum(src, ptr)
    if _scatter_serves(src):
        return _ScatterSum.apply(src, ptr)
    return segment_sum_ref(src, ptr)


def segment_mean(src: Tensor, ptr: Tensor) -> Tensor:
    r"""Like :func:`segment_sum`, but the mean of each segment; zero for an empty one."""
    count = ptr.diff().clamp(min=1).view(-1, *[1] * (src.dim() - 1))
    return segment_sum(src, ptr) / count


def _scatter_serves(src: Tensor) -> bool:
    if torch_scatter is None or torch.compiler.is_compiling():
        return False
    return src.device.type == 'cpu' or (src.is_cuda and torch.ops.torch_scatter.cuda_version() != -1)


class _ScatterSum(torch.autograd.Function):
    """The second derivative of `torch_scatter.segment_csr` is silently wrong: its backward is not recorded. Ours is.
    (`register_autograd` is for operators of our own.)"""
    @staticmethod
    def forward(ctx, src: Tensor, ptr: Tensor) -> Tensor:
        ctx.save_for_backward(ptr)
        ctx.size = src.size(0)
        return torch_scatter.segment_csr(src.contiguous(), ptr.contiguous(), reduce='sum')

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ptr, = ctx.saved_tensors
        return grad.index_select(0, segment_index(ptr, ctx.size)), None


def _check(src: Tensor, ptr: Tensor) -> None:
    if src.dim() == 0:
        raise ValueError("'src' must have rows, [T, ...] (got a scalar)")
    if ptr.dim() != 1 or ptr.numel() == 0 or ptr.dtype != torch.int64:
        raise ValueError(f"'ptr' must be int64 offsets [B + 1] (got {list(ptr.shape)}, {ptr.dtype})")
    if src.device != ptr.device:
        raise ValueError(f"'src' and 'ptr' must be on one device (got {src.device} and {ptr.device})")
    if ptr.device.type != 'cpu' or torch.compiler.is_compiling():
        return
    if ptr[0] != 0 or ptr[-1] != src.size(0) or (ptr.diff() < 0).any():
        raise ValueError(f"'ptr' must not decrease from 0 to {src.size(0)}, the rows of 'src' (got {ptr.tolist()})")


@example('segment_sum')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    return Example(segment_sum, segment_sum_ref, (normal(23, 7), torch.tensor([0, 5, 5, 23], device=device)))


if 'segment_sum' in KERNELS['cpu']:
    @register_fake('segment_sum')
    def _(src: Tensor, ptr: Tensor) -> Tensor:
        return src.new_empty(ptr.size(0) - 1, *src.shape[1:])

    def _setup(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        src, ptr = inputs
        ctx.save_for_backward(ptr)
        ctx.size = src.size(0)

    def _backward(ctx, grad: Tensor) -> tuple[Tensor, None]:
        ptr, = ctx.saved_tensors
        return grad.index_select(0, segment_index(ptr, ctx.size)), None

    torch.library.register_autograd('inertial::segment_sum', _backward, setup_context=_setup)
