r"""Derivatives of a compiled operator through its definition in PyTorch."""
from collections.abc import Callable

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
