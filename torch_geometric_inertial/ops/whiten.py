r"""Vectors whitened by the inverse root of their own covariance: the heart of an equivariant layer norm."""
from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from torch_geometric_inertial.ops.inverse_root import inverse_root_ref
from torch_geometric_inertial.ops.library import KERNELS, has_kernel
from torch_geometric_inertial.ops.through_reference import second_grad_through_reference


def regularised_covariance(x: Tensor, eps_rel: float, eps_abs: float) -> Tensor:
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
    return (inverse_root_ref(regularised_covariance(x, eps_rel, eps_abs)) @ x) * weight


def whiten(x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool = True) -> Tensor:
    r""":math:`\tilde C^{-1/2} X\,\mathrm{diag}(\gamma)` with :math:`\tilde C` of :func:`regularised_covariance`.

    Differentiable any number of times; the first two derivatives are compiled, too, and keep nothing but the input
    and twelve numbers an atom.

    Args:
        x: Vectors [N, 3, d], float32 or float64.
        weight: :math:`\gamma` [d] of the same type.
        eps_rel, eps_abs: Regularisation.
        center: Takes the mean of the vectors off. (default: :obj:`True`)

    Raises:
        ValueError: If shapes or types are wrong.
    """
    if x.dim() != 3 or x.size(1) != 3 or x.size(2) == 0 or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'x' must be [N, 3, d], float32 or float64 (got {list(x.shape)}, {x.dtype})")
    if weight.shape != x.shape[2:] or weight.dtype != x.dtype:
        raise ValueError(f"'weight' must be [{x.size(2)}], {x.dtype} (got {list(weight.shape)}, {weight.dtype})")
    if has_kernel('whiten', x):
        return _Whiten.apply(x, weight, eps_rel, eps_abs, center)
    return whiten_ref(x, weight, eps_rel, eps_abs, center)


class _Whiten(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool) -> Tensor:
        out, eigen = torch.ops.inertial.whiten(x, weight, eps_rel, eps_abs, center)
        ctx.save_for_backward(x, weight, eigen)
        ctx.settings = eps_rel, eps_abs, center
        return out

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        x, weight, eigen = ctx.saved_tensors
        return *_WhitenBackward.apply(grad, x, weight, eigen, *ctx.settings), None, None, None


class _WhitenBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, grad: Tensor, x: Tensor, weight: Tensor, eigen: Tensor, eps_rel: float, eps_abs: float,
                center: bool) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(grad, x, weight, eigen)
        ctx.settings = eps_rel, eps_abs, center
        return torch.ops.inertial.whiten_backward(grad, x, weight, eigen, eps_rel, center)

    @staticmethod
    def backward(ctx, ddx: Tensor, ddweight: Tensor) -> tuple:
        grad, x, weight, eigen = ctx.saved_tensors
        eps_rel, eps_abs, center = ctx.settings
        if torch.is_grad_enabled():  # for a third derivative
            reference = partial(whiten_ref, eps_rel=eps_rel, eps_abs=eps_abs, center=center)
            grads = second_grad_through_reference(reference, (ddx, ddweight), grad, x, weight)
        else:
            grads = torch.ops.inertial.whiten_backward_backward(ddx, ddweight, grad, x, weight, eigen, eps_rel, center)
        return *grads, None, None, None, None


if 'whiten' in KERNELS['cpu']:
    @torch.library.register_fake('inertial::whiten')
    def _(x: Tensor, weight: Tensor, eps_rel: float, eps_abs: float, center: bool) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), x.new_empty(x.size(0), 12, dtype=torch.float64)

    @torch.library.register_fake('inertial::whiten_backward')
    def _(grad: Tensor, x: Tensor, weight: Tensor, eigen: Tensor, eps_rel: float,
          center: bool) -> tuple[Tensor, Tensor]:
        return x.new_empty(x.shape), torch.empty_like(weight)

    @torch.library.register_fake('inertial::whiten_backward_backward')
    def _(ddx: Tensor, ddweight: Tensor, grad: Tensor, x: Tensor, weight: Tensor, eigen: Tensor, eps_rel: float,
          center: bool) -> tuple[Tensor, Tensor, Tensor]:
        return x.new_empty(x.shape), x.new_empty(x.shape), torch.empty_like(weight)
