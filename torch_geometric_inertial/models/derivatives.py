r"""Forces and stress of anything that gives energies: parts that a model, or a sum of models, is wrapped in."""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def energy_and_forces(energy_of: Callable[[Tensor], Tensor], pos: Tensor) -> tuple[Tensor, Tensor]:
    r"""Energies and :math:`F_i = -\partial E / \partial r_i`.

    Args:
        energy_of: From positions [N, 3] to energies [B]; atoms of different systems must not see each other.
        pos: Positions [N, 3], Å.

    Returns:
        Energies [B] and forces [N, 3], both differentiable wherever gradients are enabled.
    """
    differentiable = torch.is_grad_enabled()
    with torch.enable_grad():
        pos = pos if pos.requires_grad else pos.detach().requires_grad_()
        energy = energy_of(pos)
        gradient, = _gradients(energy, [pos], differentiable)
    return (energy, -gradient) if differentiable else (energy.detach(), -gradient)


def energy_forces_stress(energy_of: Callable[[Tensor, Tensor], Tensor], pos: Tensor, cell: Tensor, pbc: Tensor,
                         batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Energies, forces and stresses

    .. math:: \sigma = \frac{1}{V} \frac{\partial E}{\partial \epsilon}, \qquad
        r \mapsto r (1 + \epsilon), \quad \text{cell} \mapsto \text{cell}\,(1 + \epsilon), \quad
        \epsilon = \epsilon^\top .

    Args:
        energy_of: From positions [N, 3] and cells [B, 3, 3] to energies [B].
        pos: Positions [N, 3], Å.
        cell: Lattice vectors as rows [B, 3, 3], Å.
        pbc: Which of them are periods [B, 3], bool.
        batch: The system of each atom [N].

    Returns:
        Energies [B]; forces [N, 3]; and stresses [B, 3, 3], symmetric, in units of energy per Å³, zero for systems
        without a period. All are differentiable wherever gradients are enabled.
    """
    differentiable = torch.is_grad_enabled()
    volume = torch.linalg.det(cell).abs()
    with torch.enable_grad():
        pos = pos if pos.requires_grad else pos.detach().requires_grad_()
        strain = pos.new_zeros(cell.shape, requires_grad=True)
        deformation = torch.eye(3, dtype=pos.dtype, device=pos.device) + 0.5 * (strain + strain.mT)
        energy = energy_of((pos.unsqueeze(1) @ deformation[batch]).squeeze(1), cell @ deformation)
        gradient, virial = _gradients(energy, [pos, strain], differentiable)
        stress = virial / torch.where(pbc.any(1), volume, torch.inf).view(-1, 1, 1)
    return (energy, -gradient, stress) if differentiable else (energy.detach(), -gradient, stress.detach())


def _gradients(energy: Tensor, inputs: list[Tensor], differentiable: bool) -> tuple[Tensor, ...]:
    with torch.autocast(energy.device.type, enabled=False):  # derivatives take the types of the forward pass
        return torch.autograd.grad(energy.sum(), inputs, create_graph=differentiable)


def outside_inference_mode(model: nn.Module, function: Callable, *args, **kwargs) -> Any:
    r"""Calls a function that differentiates, also where :class:`torch.inference_mode` is on, which derivatives cannot
    be taken in, or where an argument was made in it.

    Raises:
        ValueError: If the parameters of the model were made in it: they have no derivatives ever.
    """
    if any(p.is_inference() for p in model.parameters()):
        raise ValueError(f"this {type(model).__name__} was made under torch.inference_mode, where nothing has "
                         "derivatives: make it outside, and use torch.no_grad")
    values = [*args, *kwargs.values()]
    if not torch.is_inference_mode_enabled() and not any(isinstance(x, Tensor) and x.is_inference() for x in values):
        return function(*args, **kwargs)

    def usual(x: Any) -> Any:
        return x.clone() if isinstance(x, Tensor) and x.is_inference() else x
    grad = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.set_grad_enabled(grad):
        return function(*map(usual, args), **{name: usual(x) for name, x in kwargs.items()})
