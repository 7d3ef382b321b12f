r"""Derivatives of a compiled operator through its definition in PyTorch."""
from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def grad_through_reference(reference: Callable, grads: Tensor | Sequence[Tensor],
                           *inputs: Tensor) -> list[Tensor | None]:
    r"""The vector-Jacobian products of :obj:`reference(*inputs)` with :obj:`grads`, differentiable again.

    Args:
        reference: The definition, on tensors alone: one output or several.
        grads: The gradients of its outputs.
        *inputs: Where to differentiate; :obj:`None` comes back for those that need no gradient.
    """
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        inputs = tuple(x.view_as(x) for x in inputs)  # an input may depend on another one: cut that path
        needed = [x for x in inputs if x.requires_grad]
        found = iter(torch.autograd.grad(reference(*inputs), needed, grads, create_graph=again,
                                         materialize_grads=True))
    return [next(found) if x.requires_grad else None for x in inputs]


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


def third_grad_through_reference(reference: Callable[..., Tensor], grads: Sequence[Tensor],
                                 *inputs: Tensor) -> list[Tensor | None]:
    r"""The vector-Jacobian products of :func:`second_grad_through_reference` with :obj:`grads`, differentiable again.

    Args:
        reference: The definition, on tensors alone.
        grads: The gradients of the second derivative's outputs, 1 + k of them.
        *inputs: Where to differentiate: k cotangents, the gradient of the output, and the k inputs of the definition.
    """
    count = len(inputs) // 2

    def second(*args: Tensor) -> tuple[Tensor, ...]:
        return second_grad_through_reference(reference, args[:count], *args[count:])
    return grad_through_reference(second, grads, *inputs)
