r"""Learning relaxed geometries and a property of them from cheap conformers."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.ops.segment import segment_mean
from torch_geometric_inertial.training.packed_targets import PackedTargets


class RelaxedGapTerms(NamedTuple):
    r"""The loss; then mean absolute errors of gaps (eV), of positions (Å, the three components of an atom summed) and
    of distances between atoms (Å)."""
    total: Tensor
    gap_mae: Tensor
    position_l1: Tensor
    distance_l1: Tensor


class RelaxedGapLoss(nn.Module):
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

    def forward(self, batch: Data, generator: torch.Generator | None = None) -> RelaxedGapTerms:
        r"""The loss of a batch with :obj:`z`, :obj:`pos`, :obj:`batch`, :obj:`ptr`, :obj:`gap`, :obj:`relaxed`, and
        :obj:`progress`, the share of the training that is done (0 if not there)."""
        gap, pos = self.model(batch.z, batch.pos, batch.batch, batch_size=batch.gap.size(0), vectors=self.positions,
                              validate=False)  # elements were looked at; noise does not put atoms into one place
        gap_mae = (gap - batch.gap).abs().mean()
        if not self.positions:
            return RelaxedGapTerms(gap_mae, gap_mae, gap_mae.new_zeros(()), gap_mae.new_zeros(()))
        position_l1 = segment_mean((pos - batch.relaxed).abs().sum(1), batch.ptr).mean()
        row, col, pairs = molecule_pairs(batch.ptr)
        stretch = (pos[row] - pos[col]).norm(dim=1) - (batch.relaxed[row] - batch.relaxed[col]).norm(dim=1)
        distance_l1 = segment_mean(stretch.abs(), pairs).mean()
        progress = batch.get('progress', 0.0)
        total = (gap_mae + scheduled(self.position_weight, progress) * position_l1
                 + scheduled(self.distance_weight, progress) * distance_l1)
        return RelaxedGapTerms(total, gap_mae, position_l1, distance_l1)


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
