r"""Rotation of adjacent feature pairs, the core of rotary position encodings."""
from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake


def rope_rotate_ref(x: Tensor, phase: Tensor) -> Tensor:
    r"""The definition of :func:`rope_rotate`, in plain PyTorch."""
    cos, sin = phase.cos().unsqueeze(1), phase.sin().unsqueeze(1)
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1).flatten(-2).to(x.dtype)


def rope_rotate(x: Tensor, phase: Tensor) -> Tensor:
    r"""Turns adjacent feature pairs by a phase that the heads of a token share,

    .. math::
        (x_{2k}, x_{2k+1}) \mapsto
        (x_{2k} \cos\theta_k - x_{2k+1} \sin\theta_k,\; x_{2k} \sin\theta_k + x_{2k+1} \cos\theta_k) .

    With :math:`\theta_k = p\,\omega_k` this is the rotary encoding (Su et al., arXiv:2104.09864) of a place :math:`p`,
    on a line or in space. Half precision is turned in float32. Differentiable any number of times in both arguments.

    Args:
        x: Features [T, H, D] of :math:`H` heads; D even.
        phase: Phases [T, D / 2] in rad, float32 or float64.

    Raises:
        ValueError: If shapes or types are wrong.
    """
    if x.dim() != 3 or x.size(2) % 2 != 0 or not x.is_floating_point():
        raise ValueError(f"'x' must be features [T, H, D] with D even (got {list(x.shape)}, {x.dtype})")
    if phase.shape != (x.size(0), x.size(2) // 2) or phase.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'phase' must be [{x.size(0)}, {x.size(2) // 2}] in float32 or float64 "
                         f"(got {list(phase.shape)}, {phase.dtype})")
    if has_kernel('rope_rotate', x):
        return torch.ops.inertial.rope_rotate(x, phase)
    return rope_rotate_ref(x, phase)


def _quarter(x: Tensor) -> Tensor:
    """Turns every pair by 90 degrees."""
    return torch.stack([-x[..., 1::2], x[..., 0::2]], dim=-1).flatten(-2)


@example('rope_rotate')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    return Example(rope_rotate, rope_rotate_ref, (normal(23, 3, 20), 9 * normal(23, 10)))


if 'rope_rotate' in KERNELS['cpu']:
    @register_fake('rope_rotate')
    def _(x: Tensor, phase: Tensor) -> Tensor:
        return x.new_empty(x.shape)

    @register_fake('rope_rotate_phase')
    def _(grad: Tensor, out: Tensor) -> Tensor:
        wide = torch.float64 if grad.dtype == torch.float64 else torch.float32
        return grad.new_empty(grad.size(0), grad.size(2) // 2, dtype=wide)

    def _setup(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[1], output)

    def _backward(ctx, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        phase, out = ctx.saved_tensors
        x_grad = torch.ops.inertial.rope_rotate(grad, -phase) if ctx.needs_input_grad[0] else None
        if not ctx.needs_input_grad[1]:
            return x_grad, None
        return x_grad, torch.ops.inertial.rope_rotate_phase(grad, out).to(phase.dtype)

    def _setup_phase(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    def _backward_phase(ctx, twist: Tensor) -> tuple[Tensor, Tensor]:
        grad, out = ctx.saved_tensors
        twist = twist.repeat_interleave(2, dim=1).unsqueeze(1)
        return (twist * _quarter(out)).to(grad.dtype), (-twist * _quarter(grad)).to(out.dtype)

    torch.library.register_autograd('inertial::rope_rotate', _backward, setup_context=_setup)
    torch.library.register_autograd('inertial::rope_rotate_phase', _backward_phase, setup_context=_setup_phase)
