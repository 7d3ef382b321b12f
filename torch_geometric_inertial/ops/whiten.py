r"""Vectors whitened by the inverse root of their own covariance: the heart of an equivariant layer norm."""
from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from torch_geometric_inertial.ops.inverse_root import inverse_root_ref
from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake
from torch_geometric_inertial.ops.through_reference import third_grad_through_reference


def regularized_covariance(x: Tensor, eps_rel: float, eps_abs: float) -> Tensor:
    r""":math:`C + (\epsilon_\mathrm{rel}\,\mathrm{tr}\,C / 3 + \epsilon_\mathrm{abs})\,I` with :math:`C = X X^\top / d`
    of [N, 3, d]: [N, 3, 3]."""
    covariance = x @ x.mT / x.size(-1)
    trace = covariance.diagonal(dim1=1, dim2=2).sum(1).view(-1, 1, 1)
    eye = torch.eye(3, dtype=covariance.dtype, device=covariance.device)
    return torch.addcmul(covariance, trace * (eps_rel / 3) + eps_abs, eye)


def whiten_ref(x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool = True) -> Tensor:
    r"""The definition of :func:`whiten`, in plain PyTorch."""
    if center:
        x = x - x.mean(-1, keepdim=True)
    return (inverse_root_ref(regularized_covariance(x, eps_rel, eps_abs)) @ x) * weight


def whiten(x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool = True) -> Tensor:
    r""":math:`\tilde C^{-1/2} X\,\mathrm{diag}(\gamma)` with :math:`\tilde C` of :func:`regularized_covariance`.

    Differentiable any number of times; the first two derivatives are compiled, too, and keep nothing but the input
    and twelve numbers per atom.

    Args:
        x: Vectors [N, 3, d], float32 or float64.
        weight: :math:`\gamma` [d] of the same type.
        eps_rel, eps_abs: Regularization.
        center: Takes the mean of the vectors off. (default: :obj:`True`)

    Raises:
        ValueError: If shapes or types are wrong.
    """
    if x.dim() != 3 or x.size(1) != 3 or x.size(2) == 0 or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'x' must be [N, 3, d], float32 or float64 (got {list(x.shape)}, {x.dtype})")
    if weight.shape != x.shape[2:] or weight.dtype != x.dtype:
        raise ValueError(f"'weight' must be [{x.size(2)}], {x.dtype} (got {list(weight.shape)}, {weight.dtype})")
    if has_kernel('whiten', x):
        return torch.ops.inertial.whiten(x, weight, eps_rel, eps_abs, center)[0]
    return whiten_ref(x, weight, eps_rel, eps_abs, center)


@example('whiten')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    return Example(lambda x, weight: whiten(x, weight, 1e-3, 0.1), lambda x, weight: whiten_ref(x, weight, 1e-3, 0.1),
                   (normal(23, 3, 12), normal(12)))


if 'whiten' in KERNELS['cpu']:
    @register_fake('whiten')
    def _(x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), x.new_empty(x.size(0), 12, dtype=torch.float64)

    @register_fake('whiten_backward')
    def _(grad: Tensor, x: Tensor, weight: Tensor, eigen: Tensor, eps_rel: float, eps_abs: float,
          center: bool) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), torch.empty_like(weight)

    @register_fake('whiten_backward_backward')
    def _(ddx: Tensor, ddweight: Tensor, grad: Tensor, x: Tensor, weight: Tensor, eigen: Tensor, eps_rel: float,
          eps_abs: float, center: bool) -> tuple[Tensor, Tensor, Tensor]:
        return x.new_empty(x.shape), x.new_empty(x.shape), torch.empty_like(weight)

    def _setup(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        x, weight, *settings = inputs
        ctx.save_for_backward(x, weight, output[1])
        ctx.mark_non_differentiable(output[1])
        ctx.settings = settings

    def _backward(ctx, grad: Tensor, _: Tensor) -> tuple:
        return *torch.ops.inertial.whiten_backward(grad, *ctx.saved_tensors, *ctx.settings), None, None, None

    def _setup_backward(ctx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.settings = inputs[4:]

    def _double_backward(ctx, ddx: Tensor, ddweight: Tensor) -> tuple:
        grads = torch.ops.inertial.whiten_backward_backward(ddx, ddweight, *ctx.saved_tensors, *ctx.settings)
        return *grads, None, None, None, None

    def _setup_double_backward(ctx, inputs: tuple, output: tuple[Tensor, Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs[:5])
        ctx.settings = dict(zip(('eps_rel', 'eps_abs', 'center'), inputs[6:], strict=True))

    def _triple_backward(ctx, *grads: Tensor) -> tuple:
        reference = partial(whiten_ref, **ctx.settings)
        return *third_grad_through_reference(reference, grads, *ctx.saved_tensors), None, None, None, None

    torch.library.register_autograd('inertial::whiten', _backward, setup_context=_setup)
    torch.library.register_autograd('inertial::whiten_backward', _double_backward, setup_context=_setup_backward)
    torch.library.register_autograd('inertial::whiten_backward_backward', _triple_backward,
                                    setup_context=_setup_double_backward)
