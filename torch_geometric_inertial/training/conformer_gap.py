r"""Learning relaxed geometries and a property of them from cheap conformers."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.ops.segment import segment_mean
from torch_geometric_inertial.superpose import superposed_rmsd
from torch_geometric_inertial.training.packed_targets import PackedTargets
from torch_geometric_inertial.training.relaxation_input import chosen_conformers


class ConformerGapTerms(NamedTuple):
    r"""The loss; then mean absolute errors of gaps (eV), of positions (Å, the three components of an atom summed) and
    of distances between atoms (Å)."""
    total: Tensor
    gap_mae: Tensor
    position_l1: Tensor
    distance_l1: Tensor


class ConformerGapLoss(nn.Module):
    r""":math:`|\Delta y| + w_x \lVert \Delta x \rVert_1 + w_d |\Delta d|` of a gap, of relaxed positions and of the
    distances between them, each a mean over a molecule's atoms or pairs and then over molecules, as Uni-Mol+ trains.

    The two weights go linearly from their first to their last value over the training, by :obj:`batch.progress`, which
    :func:`fit` sets. The model's reference and scale are set to mean and standard deviation of the training gaps.

    Args:
        model (AtomPredictor): Predicts one scalar, a :obj:`'mean'`, and positions.
        data (PackedTargets): The training set, with :obj:`gap` [M].
        position_weight (tuple): :math:`w_x`, first and last. (default: :obj:`(0.3, 0.06)`)
        distance_weight (tuple): :math:`w_d`, first and last. (default: :obj:`(1.5, 0.3)`)

    With weights of zero the gap alone is learned, such as from geometries that are relaxed already, and the model need
    not predict positions.

    Raises:
        ValueError: If the model gives something else, a weight is negative, or the data holds other elements.
    """
    def __init__(self, model: AtomPredictor, data: PackedTargets, position_weight: tuple[float, float] = (0.3, 0.06),
                 distance_weight: tuple[float, float] = (1.5, 0.3)):
        super().__init__()
        c = model.config
        for name, weight in (('position_weight', position_weight), ('distance_weight', distance_weight)):
            if len(weight) != 2 or not min(weight) >= 0:
                raise ValueError(f"'{name}' must be a first and a last weight, not negative (got {tuple(weight)})")
        self.positions = max(*position_weight, *distance_weight) > 0
        if (c.scalar_head, c.num_scalars) != ('mean', 1) or (self.positions and c.vector_head != 'position'):
            raise ValueError("'model' must predict one gap, a 'mean', and 'position's "
                             f"(got {c.num_scalars}, '{c.scalar_head}' and '{c.vector_head}')")
        unknown = set(data.atom_columns['z'].unique().tolist()) - set(c.elements)
        if unknown:
            raise ValueError(f"'data' must hold elements of {list(c.elements)} (got {sorted(unknown)})")
        self.model, self.position_weight, self.distance_weight = model, tuple(position_weight), tuple(distance_weight)
        gap = data.molecule_columns['gap'].double()
        deviation = gap.std() if len(gap) > 1 else gap.new_zeros(())
        model.reference.fill_(float(gap.mean()))
        model.scale.fill_(float(deviation) if deviation > 0 else 1.0)

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> ConformerGapTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`ptr`, :obj:`gap`, :obj:`pos_relaxed`, and
        :obj:`progress`, the share of the training that is done (0 if not there)."""
        gap, pos = self.model(batch.z, batch.pos, batch.batch, batch_size=batch.gap.size(0), vectors=self.positions,
                              validate=False)  # elements were looked at; noise does not put atoms into one place
        gap_mae = (gap - batch.gap).abs().mean()
        if not self.positions:
            return ConformerGapTerms(gap_mae, gap_mae, gap_mae.new_zeros(()), gap_mae.new_zeros(()))
        position_l1 = segment_mean((pos - batch.pos_relaxed).abs().sum(1), batch.ptr).mean()
        row, col, pairs = molecule_pairs(batch.ptr)
        stretch = (pos[row] - pos[col]).norm(dim=1) - (batch.pos_relaxed[row] - batch.pos_relaxed[col]).norm(dim=1)
        distance_l1 = segment_mean(stretch.abs(), pairs).mean()
        progress = batch.get('progress', 0.0)
        total = (gap_mae + scheduled(self.position_weight, progress) * position_l1
                 + scheduled(self.distance_weight, progress) * distance_l1)
        return ConformerGapTerms(total, gap_mae, position_l1, distance_l1)


def scheduled(ends: tuple[float, float], progress: float) -> float:
    r"""A weight on its way from the first to the last of its :obj:`ends`, by the share of the training that is done."""
    return ends[0] + (ends[1] - ends[0]) * min(max(progress, 0.0), 1.0)


def molecule_pairs(ptr: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Each pair of atoms of each molecule once, as :obj:`row` < :obj:`col` [P], and the offsets of a molecule's pairs
    [B + 1]."""
    size = ptr.diff()
    later = torch.repeat_interleave(ptr[1:], size) - torch.arange(int(ptr[-1]), device=ptr.device) - 1
    row = torch.repeat_interleave(later)
    first = later.cumsum(0) - later
    col = row + 1 + torch.arange(row.numel(), device=ptr.device) - first[row]
    count = size * (size - 1) // 2
    return row, col, torch.cat([count.new_zeros(1), count.cumsum(0)])


class ConformerPrediction(NamedTuple):
    r"""Mean and standard deviation of the gaps from a molecule's conformers [M], and the positions from its first one
    [T, 3]."""
    gap: Tensor
    gap_spread: Tensor
    pos: Tensor


def predict_from_conformers(model: AtomPredictor, data: PackedTargets, max_conformers: int | None = None,
                            batch_size: int = 256) -> ConformerPrediction:
    r"""Runs the model on each conformer of each molecule and averages the gaps.

    Args:
        model (AtomPredictor): Predicts one scalar and positions.
        data (PackedTargets): With :obj:`conformers` [T, K, 3] and :obj:`num_conformers` [M].
        max_conformers (int, optional): Conformers a molecule to use; all that it has, if not given.
        batch_size (int): Molecules at a time.

    Raises:
        ValueError: If :obj:`max_conformers` is less than one, or a molecule has no conformer.
    """
    if max_conformers is not None and max_conformers < 1:
        raise ValueError(f"'max_conformers' must be at least 1 (got {max_conformers})")
    count = data.molecule_columns['num_conformers'].long().clamp(0, max_conformers)
    if int(count.min()) < 1:
        raise ValueError(f"'data' must have a conformer of each molecule (got none of {int(count.argmin())})")
    gaps = torch.full((len(data), int(count.max())), torch.nan, dtype=torch.float64)

    def conformers(index: Tensor, k: int) -> Iterator[Data]:
        for some in index.split(batch_size):
            batch = data.batch(some)
            batch.pos = chosen_conformers(batch, torch.full_like(some, k))
            yield batch
    for k in range(gaps.size(1)):
        index = (count > k).nonzero().flatten()
        found = model.predict(conformers(index, k), vectors=k == 0, validate=False)
        assert found.scalars is not None
        gaps[index, k] = found.scalars
        if found.vectors is not None:
            positions = found.vectors
    mean = gaps.nanmean(1)
    return ConformerPrediction(mean, (gaps - mean.unsqueeze(1)).square().nanmean(1).sqrt(), positions)


def relaxation_errors(predicted: ConformerPrediction, data: PackedTargets) -> dict[str, float]:
    r"""Mean absolute error of gaps (eV) and, where the relaxed geometry is known, means over molecules of the root mean
    square distance (Å) to it, after superposition, from the prediction and from the first conformer."""
    errors = dict(gap_mae=float((predicted.gap - data.molecule_columns['gap']).abs().mean()))
    if 'pos_relaxed' in data.atom_columns:
        relaxed, conformer = data.atom_columns['pos_relaxed'], data.atom_columns['conformers'][:, 0]
        errors['rmsd'] = float(superposed_rmsd(predicted.pos, relaxed, data.ptr).mean())
        errors['conformer_rmsd'] = float(superposed_rmsd(conformer, relaxed, data.ptr).mean())
    return errors
