r"""Do molecules have the property values that were asked for? The protocol of EDM (Hoogeboom et al., 2022).

The training set is cut in two: a regressor learns from one half, the generator from the other. The regressor then
predicts the property of what was generated, and its mean absolute error against what was asked for stands between
two bounds: labels that have nothing to do with their molecules, and molecules of which nothing is known but their
size; and above its own error on real molecules, which nothing can be expected to go below.
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.metrics.preflight import screen
from torch_geometric_inertial.ops.segment import segment_sum

Regressor = Callable[[list[Data]], Tensor]  #: Molecules to predicted values [B].


@dataclass(frozen=True)
class PropertyError:
    r"""Mean absolute errors, in the unit of the property.

    Args:
        mae: Regressor on generated molecules, against what was asked for.
        random: Regressor on real molecules, against the labels of others. Higher is no control at all.
        size_only: The best guess from the number of atoms. Lower is control of more than the size.
        regressor: Regressor on real molecules, against their own labels: what a perfect generator has.
        num_requested: How many molecules were asked for.
        num_failed: Those that cannot be judged (missing, empty, unfinished, not finite, an element that is none, atoms
            within 0.4 Å, where networks give any number or none), for which there is no error; a report must name them.
        predicted: What the regressor says of each of the generated molecules, :obj:`None` for those that failed.
    """
    mae: float
    random: float
    size_only: float
    regressor: float
    num_requested: int
    num_failed: int
    predicted: tuple[float | None, ...]

    def __str__(self) -> str:
        rows = [('random labels', self.random), ('size only', self.size_only), ('generated', self.mae),
                ('real molecules', self.regressor)]
        lines = [f'{"":15} {"MAE":>10}', *(f'{name:15} {value:10.4g}' for name, value in rows)]
        return '\n'.join([*lines, f'failed: {self.num_failed} of {self.num_requested}'])


def halves(num: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    r"""Numbers 0 … num − 1 in two random halves, each ascending: for the regressor and for the generator.

    Raises:
        ValueError: If there are fewer than two.
    """
    if num < 2:
        raise ValueError(f"'num' must be at least 2 (got {num})")
    order = torch.randperm(num, generator=torch.Generator().manual_seed(seed))
    return order[:num // 2].sort().values, order[num // 2:].sort().values


def random_label_mae(predicted: Tensor, labels: Tensor) -> float:
    r"""The mean of :math:`|\hat y_i - y_j|` over all pairs :math:`i \ne j`: the expectation over shuffled labels."""
    if labels.numel() < 2:
        raise ValueError(f"'labels' must hold at least 2 values (got {labels.numel()})")
    predicted, labels = _same_size(predicted, labels)
    ordered = labels.sort().values
    below = torch.cat([ordered.new_zeros(1), ordered.cumsum(0)])
    rank = torch.searchsorted(ordered, predicted.contiguous())  # labels below each prediction
    num = labels.numel()
    pairs = predicted * rank - below[rank] + (below[-1] - below[rank]) - predicted * (num - rank)
    return float((pairs.sum() - (predicted - labels).abs().sum()) / (num * (num - 1)))


def size_only_mae(train_sizes: Tensor, train_labels: Tensor, sizes: Tensor, labels: Tensor) -> float:
    r"""The error of guessing the median label of the training molecules with as many atoms (of all, where there is no
    such molecule): the least that is possible on the training set itself.

    Args:
        train_sizes: Numbers of atoms [M].
        train_labels: Their labels [M].
        sizes: Numbers of atoms [B].
        labels: Their labels [B].
    """
    train_sizes, train_labels = _same_size(train_sizes, train_labels)
    sizes, labels = _same_size(sizes, labels)
    if train_labels.numel() == 0 or labels.numel() == 0:
        raise ValueError(f"'train_labels' and 'labels' must hold values (got {train_labels.numel()} and "
                         f"{labels.numel()})")
    guess = torch.full_like(labels, float(train_labels.quantile(0.5)))
    for size in sizes.unique():
        same = train_labels[train_sizes == size]
        if same.numel() > 0:
            guess[sizes == size] = same.quantile(0.5)
    return float((guess - labels).abs().mean())


def formula_only_mae(train_molecules: tuple[Tensor, Tensor], train_labels: Tensor, molecules: tuple[Tensor, Tensor],
                     labels: Tensor) -> float:
    r"""The error of a linear function of the formula, fitted to the training molecules by least squares: a constant and
    a number per atom of each element.

    Args:
        train_molecules: Atomic numbers [T] and offsets [M + 1].
        train_labels: Their labels [M].
        molecules: Atomic numbers [T] and offsets [B + 1].
        labels: Their labels [B].
    """
    elements = train_molecules[0].unique()

    def formula(z: Tensor, ptr: Tensor) -> Tensor:
        counts = segment_sum((z.unsqueeze(1) == elements).long(), ptr).double()
        return torch.cat([counts.new_ones(counts.size(0), 1), counts], dim=1)
    solution = torch.linalg.lstsq(formula(*train_molecules), train_labels.double().unsqueeze(1)).solution
    return float(((formula(*molecules) @ solution).squeeze(1) - labels).abs().mean())


def property_error(regressor: Regressor, generated: Sequence[Data | None], requested: Tensor, real: Sequence[Data],
                   labels: Tensor, train_sizes: Tensor, train_labels: Tensor) -> PropertyError:
    r"""Judges molecules by the value that was asked for.

    Args:
        regressor: Trained on molecules that the generator has not seen; :func:`halves` makes such.
        generated: One a request; :obj:`None` for a failed one.
        requested: What was asked for [B].
        real: Molecules that the regressor has not seen.
        labels: Their values [R].
        train_sizes: Numbers of atoms of the training molecules [M].
        train_labels: Their values [M].

    Raises:
        ValueError: If sizes do not match, a label or an answer of the regressor is not finite, or nothing generated
            can be read.
    """
    generated = list(generated)
    if requested.shape != (len(generated), ):
        raise ValueError(f"'requested' must be [{len(generated)}] (got {tuple(requested.shape)})")
    status = screen(generated, range(1, 119)).status
    read = torch.tensor([name == 'ok' for name in status], dtype=torch.bool)
    if not bool(read.any()):
        raise ValueError(f"'generated' must hold at least one molecule that can be read (got none of {len(generated)})")
    of_generated = _predict(regressor, [data for data, ok in zip(generated, read, strict=True) if ok])
    of_real = _predict(regressor, list(real))
    asked, of_generated = _same_size(requested.detach().cpu()[read], of_generated)
    labels, of_real = _same_size(labels, of_real)
    sizes = torch.tensor([data.z.numel() for data in real])
    values = iter(of_generated.tolist())
    return PropertyError(
        mae=float((of_generated - asked).abs().mean()),
        random=random_label_mae(of_real, labels),
        size_only=size_only_mae(train_sizes, train_labels, sizes, labels),
        regressor=float((of_real - labels).abs().mean()),
        num_requested=len(generated),
        num_failed=int((~read).sum()),
        predicted=tuple(next(values) if ok else None for ok in read.tolist()),
    )


def _predict(regressor: Regressor, molecules: list[Data]) -> Tensor:
    out = regressor(molecules)
    if out.shape != (len(molecules), ):
        raise ValueError(f"'regressor' must return one value a molecule, [{len(molecules)}] (got {tuple(out.shape)})")
    return out


def _same_size(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    a, b = a.detach().cpu().double(), b.detach().cpu().double()
    if a.dim() != 1 or a.shape != b.shape:
        raise ValueError(f'expected two vectors of one length (got {tuple(a.shape)} and {tuple(b.shape)})')
    if not bool(a.isfinite().all() and b.isfinite().all()):
        raise ValueError('expected finite values (got one that is not)')
    return a, b
