r"""Derivatives of a compiled operator through its definition in PyTorch."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def grad_through_reference(reference: Callable[..., Tensor], grad: Tensor, *inputs: Tensor) -> list[Tensor | None]:
    r"""The vector-Jacobian products of :obj:`reference(*inputs)` with :obj:`grad`, differentiable again.

    Args:
        reference: The definition, on tensors alone.
        grad: The gradient of its output.
        *inputs: Where to differentiate; :obj:`None` comes back for those that need no gradient.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = tuple(x.view_as(x) for x in inputs)  # an input may depend on another one: cut that path
        needed = [x for x in inputs if x.requires_grad]
        grads = iter(torch.autograd.grad(reference(*inputs), needed, grad, create_graph=again))
    return [next(grads) if x.requires_grad else None for x in inputs]


def second_grad_through_reference(reference: Callable[..., Tensor], cotangents: Sequence[Tensor], grad: Tensor,
                                  *inputs: Tensor) -> tuple[Tensor, ...]:
    r"""The gradients in :obj:`grad` and :obj:`inputs` of the vector-Jacobian products of :obj:`reference(*inputs)` with
    :obj:`grad`, differentiable again: what a compiled second derivative gives, for derivatives beyond it.

    Args:
        reference: The definition, on tensors alone.
        cotangents: Gradients of the products, as many as inputs.
        grad: The gradient of its output.
        *inputs: Where to differentiate.
    """
    with torch.enable_grad():
        grad, *points = (x.view_as(x) if x.requires_grad else x.detach().requires_grad_() for x in (grad, *inputs))
        products = torch.autograd.grad(reference(*points), points, grad, create_graph=True)
        return torch.autograd.grad(products, [grad, *points], cotangents, create_graph=True)
