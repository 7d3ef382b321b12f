r"""What a predictor's training minimizes, in the shape that :func:`~torch_geometric_inertial.training.fit` reads."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.ops.segment import segment_mean, segment_sum
from torch_geometric_inertial.training.packed_targets import PackedTargets


class PositionTerms(NamedTuple):
    r"""Mean squared error of a coordinate."""
    total: Tensor


class PositionLoss(nn.Module):
    r"""Mean squared error of predicted positions :obj:`y` [T, 3] over axes, atoms of a molecule and molecules, as the
    n-body task is judged by.

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
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`ptr`, :obj:`y` and, if the model reads
        velocities, :obj:`vel`."""
        _, pos = self.model(batch.z, batch.pos, batch.batch, vel=batch.get('vel'))
        return PositionTerms(segment_mean((pos - batch.y).square().mean(1), batch.ptr).mean())


class EnergyForceTerms(NamedTuple):
    r"""The loss; then mean absolute errors of energies and of the components of forces, in the units of the data."""
    total: Tensor
    energy_mae: Tensor
    force_mae: Tensor


class EnergyForceLoss(nn.Module):
    r""":math:`w_E \overline{(\Delta E / \sigma)^2} + w_F \overline{(\Delta F / \sigma)^2}`, means over molecules (for
    forces, over a molecule's atoms and axes first), with one :math:`\sigma`, the standard deviation of training
    energies around what composition explains, so that forces stay derivatives of energies.

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
        self.register_buffer('scale', _fit_references(model, data, 'energy'))
        if c.vector_head == 'direct':
            model.vector_scale.fill_(float(data.atom_columns['force'].std()))

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> EnergyForceTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`ptr`, :obj:`energy` and :obj:`force`."""
        energy, force = self.model(batch.z, batch.pos, batch.batch, batch_size=batch.energy.size(0))
        d_energy, d_force = energy - batch.energy, force - batch.force
        total = (self.energy_weight * (d_energy / self.scale).square().mean()
                 + self.force_weight * self._mean((d_force / self.scale).square(), batch))
        return EnergyForceTerms(total, d_energy.abs().mean(), self._mean(d_force.abs(), batch))

    @staticmethod
    def _mean(values: Tensor, batch: Data) -> Tensor:
        return segment_mean(values.mean(1), batch.ptr).mean()


class PropertyTerms(NamedTuple):
    r"""The loss; then the mean absolute error in the unit of the data."""
    total: Tensor
    mae: Tensor


class PropertyLoss(nn.Module):
    r"""The error of one scalar of each molecule in standard deviations :math:`\sigma` of what the model's references
    leave: :math:`|\Delta y| / \sigma`, rounded off to a parabola below :obj:`beta`.

    Builds upon a model's references: :meth:`~torch_geometric_inertial.models.AtomPredictor.fit_references` is called
    with the training values, so that the model predicts in their unit.

    Args:
        model (AtomPredictor): Predicts one scalar, a :obj:`'sum'` or a :obj:`'mean'`.
        data (PackedTargets): The training set.
        target (str): Its column [M]. (default: :obj:`'y'`)
        beta (float): Where the parabola ends, in :math:`\sigma`. (default: :obj:`0.0`, none)

    Raises:
        ValueError: If the model gives something else, the data lack the column, or :obj:`beta` is negative.
    """
    scale: Tensor

    def __init__(self, model: AtomPredictor, data: PackedTargets, target: str = 'y', beta: float = 0.0):
        super().__init__()
        c = model.config
        if c.scalar_head == 'none' or c.num_scalars != 1:
            raise ValueError(f"'model' must predict one scalar (got {c.num_scalars}, '{c.scalar_head}')")
        if data.molecule_columns.get(target, torch.empty(0)).shape != (len(data), ):
            raise ValueError(f"'data' must have a number '{target}' a molecule (got {data})")
        if not beta >= 0:
            raise ValueError(f"'beta' must not be negative (got {beta})")
        self.model, self.target, self.beta = model, target, beta
        self.register_buffer('scale', _fit_references(model, data, target))

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> PropertyTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch` and the target."""
        wanted = batch[self.target]
        y, _ = self.model(batch.z, batch.pos, batch.batch, batch_size=wanted.size(0), vectors=False)
        loss = nn.functional.smooth_l1_loss(y / self.scale, wanted / self.scale, beta=self.beta)
        return PropertyTerms(loss, (y - wanted).abs().mean())


def _fit_references(model: AtomPredictor, data: PackedTargets, target: str) -> Tensor:
    """Fits the model's references to a column, and returns the standard deviation of what they leave."""
    batch, values = data.batch(), data.molecule_columns[target].double()
    model.fit_references(batch.z, batch.batch, values)
    reduce = segment_sum if model.config.scalar_head == 'sum' else segment_mean
    explained = model.reference.double().cpu()[[model.config.elements.index(k) for k in batch.z.tolist()], 0]
    deviation = (values - reduce(explained, data.ptr)).std() if len(data) > 1 else values.new_zeros(())
    return deviation if deviation > 0 else torch.ones_like(deviation)
