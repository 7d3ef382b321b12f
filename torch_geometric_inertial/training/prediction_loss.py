r"""What a predictor's training minimises, in the shape that :func:`~torch_geometric_inertial.training.fit` reads."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.training.packed_targets import PackedTargets


class PositionTerms(NamedTuple):
    r"""Mean squared error of a coordinate."""
    total: Tensor


class PositionLoss(nn.Module):
    r"""Mean squared error of predicted positions :obj:`y` [T, 3] over molecules, atoms and axes, as the n-body task is
    judged by.

    Args:
        model (AtomPredictor): Predicts positions (:obj:`vector_head='position'`).

    Raises:
        ValueError: If it does not.
    """
    def __init__(self, model: AtomPredictor):
        super().__init__()
        if model.config.vector_head != 'position':
            raise ValueError(f"'model' must predict positions (got vector_head='{model.config.vector_head}')")
        self.model = model

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> PositionTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`y` and, if the model reads velocities,
        :obj:`vel`."""
        _, pos = self.model(batch.z, batch.pos, batch.batch, vel=batch.get('vel'))
        return PositionTerms((pos - batch.y).square().mean())


class EnergyForceTerms(NamedTuple):
    r"""The loss; then mean absolute errors of energies and of the components of forces, in the units of the data."""
    total: Tensor
    energy_mae: Tensor
    force_mae: Tensor


class EnergyForceLoss(nn.Module):
    r""":math:`w_E \overline{(\Delta E / \sigma)^2} + w_F \overline{(\Delta F / \sigma)^2}` with one :math:`\sigma`, the
    standard deviation of training energies around what composition explains, so that forces stay derivatives of
    energies.

    Builds upon a model's references: :meth:`~torch_geometric_inertial.models.AtomPredictor.fit_references` is called
    with the training energies.

    Args:
        model (AtomPredictor): Predicts one energy (a sum over atoms) and forces.
        data (PackedTargets): The training set, with :obj:`energy` [M] and :obj:`force` [T, 3].
        energy_weight (float): :math:`w_E`. (default: :obj:`0.2`, as TorchMD-NET's)
        force_weight (float): :math:`w_F`. (default: :obj:`0.8`)

    Raises:
        ValueError: If the model gives something else, a weight is negative, or both are zero.
    """
    scale: Tensor

    def __init__(self, model: AtomPredictor, data: PackedTargets, energy_weight: float = 0.2,
                 force_weight: float = 0.8):
        super().__init__()
        c = model.config
        if c.vector_head not in ('conservative', 'direct') or (c.scalar_head, c.num_scalars) != ('sum', 1):
            raise ValueError("'model' must predict one energy, a 'sum', and forces, 'conservative' or 'direct' "
                             f"(got {c.num_scalars}, '{c.scalar_head}' and '{c.vector_head}')")
        if not min(energy_weight, force_weight) >= 0 or energy_weight == force_weight == 0:
            raise ValueError("'energy_weight' and 'force_weight' must not be negative, nor both 0 "
                             f"(got {energy_weight} and {force_weight})")
        self.model, self.energy_weight, self.force_weight = model, energy_weight, force_weight
        batch = data.batch()
        model.fit_references(batch.z, batch.batch, batch.energy)
        explained = model.reference.double().cpu()[[c.elements.index(k) for k in batch.z.tolist()], 0]
        rest = batch.energy.double() - explained.new_zeros(len(data)).index_add_(0, batch.batch, explained)
        deviation = rest.std() if len(data) > 1 else rest.new_zeros(())
        self.register_buffer('scale', deviation if deviation > 0 else torch.ones_like(deviation))
        if c.vector_head == 'direct':
            model.vector_scale.fill_(float(batch.force.std()))

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> EnergyForceTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`energy` and :obj:`force`."""
        energy, force = self.model(batch.z, batch.pos, batch.batch, batch_size=batch.energy.size(0))
        d_energy, d_force = energy - batch.energy, force - batch.force
        total = (self.energy_weight * (d_energy / self.scale).square().mean()
                 + self.force_weight * (d_force / self.scale).square().mean())
        return EnergyForceTerms(total, d_energy.abs().mean(), d_force.abs().mean())
