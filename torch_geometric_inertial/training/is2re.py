r"""Learning the relaxed energy and structure of periodic systems from their initial structure: IS2RE and IS2RS."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.neighbors.minimum_image import minimum_image
from torch_geometric_inertial.ops.segment import segment_sum
from torch_geometric_inertial.training.conformer_gap import scheduled
from torch_geometric_inertial.training.fit import TrainingSet

ENERGY_MEAN, ENERGY_STD = -1.47300, 2.27078  #: Of the relaxed energies of OC20's training set, eV.


class IS2RETerms(NamedTuple):
    r"""The loss; then mean absolute errors of energies (eV) and of the components of free atoms' displacements (Å)."""
    total: Tensor
    energy_mae: Tensor
    displacement_mae: Tensor


class IS2RELoss(nn.Module):
    r""":math:`|\Delta E| / \sigma_E + w\,|\Delta u| / \sigma_u` of relaxed energies and, as an auxiliary task, of the
    displacements :math:`u` of free atoms to the relaxed structure; a mean over the components of a system's free atoms
    and then over systems (IS2RE).

    The weight goes linearly from its first to its last value over the training, by :obj:`batch.progress`, which
    :func:`fit` sets. The model's scale, offset and scale of vectors are set to :math:`\sigma_E`, the mean energy and
    :math:`\sigma_u`, one number for all directions, which is measured on a sample.

    Args:
        model (AtomPredictor): Predicts one scalar, a :obj:`'sum'`, of atoms with tags, and positions.
        sample (Data): A batch of training systems.
        energy_mean (float): Of the training energies, eV. (default: OC20's)
        energy_std (float): :math:`\sigma_E`, eV. (default: OC20's)
        displacement_weight (tuple): :math:`w`, first and last. (default: :obj:`(15.0, 1.0)`, as Graphormer's)

    Raises:
        ValueError: If the model gives something else, a weight is negative, the standard deviation is not positive, or
            the sample has elements that the model does not know.
    """
    def __init__(self, model: AtomPredictor, sample: Data, energy_mean: float = ENERGY_MEAN,
                 energy_std: float = ENERGY_STD, displacement_weight: tuple[float, float] = (15.0, 1.0)):
        super().__init__()
        c = model.config
        if (c.scalar_head, c.num_scalars, c.vector_head) != ('sum', 1, 'position') or model.config.num_tags == 0:
            raise ValueError("'model' must predict one energy, a 'sum' of atoms with tags, and 'position's (got "
                             f"{c.num_scalars}, '{c.scalar_head}', {model.config.num_tags} tags and '{c.vector_head}')")
        if len(displacement_weight) != 2 or not min(displacement_weight) >= 0:
            raise ValueError("'displacement_weight' must be a first and a last weight, not negative "
                             f"(got {tuple(displacement_weight)})")
        if not energy_std > 0:
            raise ValueError(f"'energy_std' must be positive (got {energy_std})")
        self.model, self.displacement_weight = model, tuple(displacement_weight)
        model.vector_scale.fill_(_displacement_scale(model, sample))
        model.scale.fill_(energy_std)
        model.offset.fill_(energy_mean)

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> IS2RETerms:
        r"""The loss of a batch such as those of :class:`~torch_geometric_inertial.datasets.OC20`, with
        :obj:`progress`, the share of the training that is done (0 if not there)."""
        energy, pos = _call(self.model, batch)
        energy_mae = (energy - batch.energy).abs().mean()
        displacement_mae = _displacement_error(pos, batch)
        weight = scheduled(self.displacement_weight, batch.get('progress', 0.0))
        total = energy_mae / self.model.scale + weight * displacement_mae / self.model.vector_scale
        return IS2RETerms(total, energy_mae, displacement_mae)


class IS2RSTerms(NamedTuple):
    r"""The loss; then the mean absolute error of the components of free atoms' displacements (Å)."""
    total: Tensor
    displacement_mae: Tensor


class IS2RSLoss(nn.Module):
    r""":math:`|\Delta u| / \sigma_u` of the displacements :math:`u` of free atoms to the relaxed structure; a mean over
    the components of a system's free atoms and then over systems (IS2RS).

    The model's scale of vectors is set to :math:`\sigma_u`, one number for all directions: a scale for each would not
    turn with the system.

    Args:
        model (AtomPredictor): Predicts positions; :obj:`scalar_head='none'` will do.
        sample (Data): A batch of training systems.

    Raises:
        ValueError: If the model does not, or the sample has elements that it does not know.
    """
    def __init__(self, model: AtomPredictor, sample: Data):
        super().__init__()
        if model.config.vector_head != 'position':
            raise ValueError(f"'model' must predict positions (got vector_head='{model.config.vector_head}')")
        self.model = model
        model.vector_scale.fill_(_displacement_scale(model, sample))

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> IS2RSTerms:
        r"""The loss of a batch such as those of :class:`~torch_geometric_inertial.datasets.OC20`."""
        displacement_mae = _displacement_error(_call(self.model, batch)[1], batch)
        return IS2RSTerms(displacement_mae / self.model.vector_scale, displacement_mae)


def predict_is2re(model: AtomPredictor, data: TrainingSet, batch_size: int = 16) -> tuple[Tensor | None, Tensor]:
    r"""Relaxed energies [M] (:obj:`None` if the model gives none) and structures [T, 3], from the initial structures.

    Fixed atoms stay. Positions are not wrapped into the cell.

    Args:
        model (AtomPredictor): Predicts positions.
        data: The systems, such as :class:`~torch_geometric_inertial.datasets.OC20` or :class:`PackedTargets`.
        batch_size (int): Systems at a time.
    """
    fixed, initial = [], []

    def batches() -> Iterator[Data]:
        for index in torch.arange(len(data)).split(batch_size):
            batch = data.batch(index)
            fixed.append(batch.fixed.unsqueeze(1))
            initial.append(batch.pos)
            yield batch
    found = model.predict(batches(), validate=False)
    return found.scalars, torch.where(torch.cat(fixed), torch.cat(initial), found.vectors)


def _call(model: AtomPredictor, batch: Data) -> tuple[Tensor | None, Tensor]:
    return model(batch.z, batch.pos, batch.batch, tags=batch.tags if model.config.num_tags else None, cell=batch.cell,
                 pbc=batch.pbc, batch_size=batch.cell.size(0), validate=False)  # noise puts no atoms into one place


def _displacement(batch: Data) -> Tensor:
    return minimum_image(batch.pos_relaxed - batch.pos, batch.cell, batch.pbc, batch.batch)


def _displacement_error(pos: Tensor, batch: Data) -> Tensor:
    free = (~batch.fixed).to(pos)
    error = (pos - batch.pos - _displacement(batch)).abs().mean(1) * free
    return (segment_sum(error, batch.ptr) / segment_sum(free, batch.ptr).clamp(min=1)).mean()


def _displacement_scale(model: AtomPredictor, sample: Data) -> float:
    """Root mean square of a component of the displacement of a free atom, Å."""
    unknown = set(sample.z.unique().tolist()) - set(model.config.elements)
    if unknown:
        raise ValueError(f"'sample' must hold elements of {list(model.config.elements)} (got {sorted(unknown)})")
    scale = float(_displacement(sample)[~sample.fixed].square().mean().sqrt())
    return scale if scale > 0 else 1.0
