r"""The inverse square root of symmetric positive definite 3×3 matrices, with derivatives of every order.

The derivative of :math:`U = C^{-1/2}` solves a Sylvester equation,
:math:`U\,\dot U + \dot U\,U = -U^2 \dot C\,U^2`, and the derivative of its solution solves another. The solution
divides by *sums* of eigenvalues, never by their differences, so equal eigenvalues do no harm (the derivative of
:func:`torch.linalg.eigh` divides by differences).
"""
from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from torch_geometric_inertial.ops.library import KERNELS, Example, example, has_kernel, register_fake


def symmetric(x: Tensor) -> Tensor:
    return 0.5 * (x + x.mT)


def inverse_root_ref(c: Tensor) -> Tensor:
    r"""The definition of :func:`inverse_root`, in plain PyTorch."""
    return _InverseRoot.apply(c)


def sylvester_ref(a: Tensor, q: Tensor) -> Tensor:
    r"""The definition of :func:`sylvester`, in plain PyTorch."""
    return _Sylvester.apply(a, q)


def inverse_root(c: Tensor) -> Tensor:
    r""":math:`C^{-1/2}`, the symmetric root: :math:`(R C R^\top)^{-1/2} = R\,C^{-1/2} R^\top` for every orthogonal R.

    Args:
        c: Positive definite matrices [N, 3, 3], float32 or float64; only their symmetric part is read.

    Raises:
        ValueError: If the shape or the type is wrong.
    """
    _check('c', c)
    if has_kernel('inverse_root', c):
        return torch.ops.inertial.inverse_root(c)
    return inverse_root_ref(c)


def sylvester(a: Tensor, q: Tensor) -> Tensor:
    r"""The symmetric X with :math:`A X + X A = Q`, for symmetric parts A (positive definite) and Q.

    Args:
        a: Positive definite matrices [N, 3, 3], float32 or float64.
        q: Right-hand sides [N, 3, 3] of the same type.

    Raises:
        ValueError: If shapes or types are wrong.
    """
    _check('a', a)
    _check('q', q)
    if a.shape != q.shape or a.dtype != q.dtype:
        raise ValueError(f"'q' must be {list(a.shape)}, {a.dtype}, like 'a' (got {list(q.shape)}, {q.dtype})")
    if has_kernel('sylvester', a):
        return torch.ops.inertial.sylvester(a, q)
    return sylvester_ref(a, q)


def inverse_root_newton_schulz(c: Tensor, steps: int = 16) -> Tensor:
    r"""Like :func:`inverse_root`, by the coupled Newton–Schulz iteration on the 6 unique entries, element by element.

    Products and sums alone, so that a compiler makes one kernel of it. All iterates are polynomials in C: they commute,
    and their products are symmetric. The iteration carries the product :math:`M = Z C Z`, which tends to I, since the
    usual pair :math:`(Y, Z)` is unstable once products are taken to be symmetric. 16 steps reach float64 accuracy
    for condition numbers up to 3e3; fewer are not less exact but wrong.

    Args:
        c: Positive definite matrices [N, 3, 3]; only their symmetric part is read.
        steps: Iterations. (default: :obj:`16`)
    """
    _check('c', c)
    c = symmetric(c)
    trace = c.diagonal(dim1=1, dim2=2).sum(1)
    m: list[Tensor] = [c[:, i, j] / trace for i, j in _UNIQUE]
    one, zero = torch.ones_like(trace), torch.zeros_like(trace)
    z: list[Tensor] = [one, zero, zero, one, zero, one]
    for _ in range(steps):
        t = [1.5 * float(i == j) - 0.5 * entry for (i, j), entry in zip(_UNIQUE, m, strict=True)]
        m, z = _product(_product(t, t), m), _product(z, t)
    scale = trace.rsqrt()
    xx, xy, xw, yy, yw, ww = (entry * scale for entry in z)
    return torch.stack([xx, xy, xw, xy, yy, yw, xw, yw, ww], dim=1).view(-1, 3, 3)


_UNIQUE = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))


def _product(a: list[Tensor], b: list[Tensor]) -> list[Tensor]:
    """Of commuting symmetric matrices, upper triangles in the order of `_UNIQUE`."""
    a0, a1, a2, a3, a4, a5 = a
    b0, b1, b2, b3, b4, b5 = b
    return [
        a0 * b0 + a1 * b1 + a2 * b2, a0 * b1 + a1 * b3 + a2 * b4, a0 * b2 + a1 * b4 + a2 * b5,
        a1 * b1 + a3 * b3 + a4 * b4, a1 * b2 + a3 * b4 + a4 * b5, a2 * b2 + a4 * b4 + a5 * b5,
    ]


def _check(name: str, x: Tensor) -> None:
    if x.dim() != 3 or x.shape[1:] != (3, 3) or x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"'{name}' must be [N, 3, 3], float32 or float64 (got {list(x.shape)}, {x.dtype})")


def _inverse_root_backward(root: Tensor, grad: Tensor) -> Tensor:
    with torch.autocast(root.device.type, enabled=False):
        square = root @ root
        return sylvester(root, -(square @ symmetric(grad.to(root.dtype)) @ square))


def _sylvester_backward(a: Tensor, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(a.device.type, enabled=False):
        grad_q = sylvester(a, symmetric(grad.to(a.dtype)))
        return -2 * symmetric(grad_q @ x), grad_q


# The definitions are no registered operators, so they cannot use `register_autograd`; they have the derivatives of the
# compiled ones, since those of `eigh` are infinite where two eigenvalues are equal.
class _InverseRoot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, c: Tensor) -> Tensor:
        value, vector = torch.linalg.eigh(symmetric(c))
        root = (vector * value.rsqrt().unsqueeze(1)) @ vector.mT
        ctx.save_for_backward(root)
        return root

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        root, = ctx.saved_tensors
        return _inverse_root_backward(root, grad)


class _Sylvester(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a: Tensor, q: Tensor) -> Tensor:
        value, vector = torch.linalg.eigh(symmetric(a))
        sums = value.unsqueeze(1) + value.unsqueeze(2)
        x = vector @ (vector.mT @ symmetric(q) @ vector / sums) @ vector.mT
        ctx.save_for_backward(a, x)
        return x

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, x = ctx.saved_tensors
        return _sylvester_backward(a, x, grad)


@example('inverse_root')
def _(normal: Callable[..., Tensor], device: torch.device) -> Example:
    root = normal(23, 3, 3)
    return Example(inverse_root, inverse_root_ref, (root @ root.mT + torch.eye(3, device=device), ))


if 'inverse_root' in KERNELS['cpu']:
    @register_fake('inverse_root')
    def _(c: Tensor) -> Tensor:
        return torch.empty_like(c, memory_format=torch.contiguous_format)

    @register_fake('sylvester')
    def _(a: Tensor, q: Tensor) -> Tensor:
        return torch.empty_like(a, memory_format=torch.contiguous_format)

    def _setup_root(ctx, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    def _setup_sylvester(ctx, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(inputs[0], output)

    def _root_backward(ctx, grad: Tensor) -> Tensor:
        root, = ctx.saved_tensors
        return _inverse_root_backward(root, grad)

    def _solution_backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor]:
        a, x = ctx.saved_tensors
        return _sylvester_backward(a, x, grad)

    torch.library.register_autograd('inertial::inverse_root', _root_backward, setup_context=_setup_root)
    torch.library.register_autograd('inertial::sylvester', _solution_backward, setup_context=_setup_sylvester)
