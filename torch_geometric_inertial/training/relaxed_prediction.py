r"""Relaxed geometries and gaps from several conformers of a molecule."""
from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.superpose import superposed_rmsd
from torch_geometric_inertial.training.packed_targets import PackedTargets
from torch_geometric_inertial.training.relaxation_input import chosen_conformers


class RelaxedPrediction(NamedTuple):
    r"""Mean and standard deviation of the gaps from a molecule's conformers [M], and the positions from its first one
    [T, 3]."""
    gap: Tensor
    gap_spread: Tensor
    pos: Tensor


def predict_relaxed(model: AtomPredictor, data: PackedTargets, max_conformers: int | None = None,
                    batch_size: int = 256) -> RelaxedPrediction:
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
    return RelaxedPrediction(mean, (gaps - mean.unsqueeze(1)).square().nanmean(1).sqrt(), positions)


def relaxation_errors(predicted: RelaxedPrediction, data: PackedTargets) -> dict[str, float]:
    r"""Mean absolute error of gaps (eV) and, where the relaxed geometry is known, means over molecules of the root mean
    square distance (Å) to it, after superposition, from the prediction and from the first conformer."""
    errors = dict(gap_mae=float((predicted.gap - data.molecule_columns['gap']).abs().mean()))
    if 'relaxed' in data.atom_columns:
        relaxed, conformer = data.atom_columns['relaxed'], data.atom_columns['conformers'][:, 0]
        errors['rmsd'] = float(superposed_rmsd(predicted.pos, relaxed, data.ptr).mean())
        errors['conformer_rmsd'] = float(superposed_rmsd(conformer, relaxed, data.ptr).mean())
    return errors
