r"""The weights that did best on validation data, on disk."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE
from torch_geometric_inertial.models.training_domain import TrainingDomain
from torch_geometric_inertial.training.fit import Augment, TrainingSet, fit
from torch_geometric_inertial.training.fit_config import FitConfig
from torch_geometric_inertial.training.packed_targets import PackedTargets


class KeepBest:
    r"""An :obj:`evaluate` of :func:`fit` that saves the model whenever its figure is lower than all before.

    Args:
        folder (str or Path): Where :meth:`~torch_geometric_inertial.models.Pretrained.save_pretrained` writes to.
        measure (callable): Figures of a loss module with the averaged weights: :obj:`measure(loss)`.
        figure (str): Which of them decides.
        **facts: What else the configuration file should say.

    A training that is resumed goes on from the figure that stands in the folder; the model of another training is
    replaced. Call it once more with what :func:`fit` returns, for the end of the training.

    Raises:
        ValueError: If :obj:`measure` does not give the figure, or the folder's configuration cannot be read.
    """
    def __init__(self, folder: str | Path, measure: Callable[[nn.Module], dict[str, float]], figure: str, **facts):
        self.folder, self.measure, self.figure, self.facts = Path(folder), measure, figure, facts
        self.best: float | None = None

    def __call__(self, loss: nn.Module, step: int | None = None) -> dict[str, float]:
        record = getattr(loss.model, 'training_record', None) or {}
        if self.best is None:
            self.best = self._stored(record.get('identity'))
        figures = self.measure(loss)
        if self.figure not in figures:
            raise ValueError(f"'measure' must give '{self.figure}' (got {sorted(figures)})")
        if figures[self.figure] < self.best:
            self.best = figures[self.figure]
            step = record.get('steps') if step is None else step
            loss.model.save_pretrained(self.folder, validation=dict(step=step, **figures), **self.facts)
        return figures

    def _stored(self, identity: str | None) -> float:
        """The figure of the folder's model, if it is of the training with this identity."""
        path = self.folder / CONFIG_FILE
        if not path.is_file():
            return float('inf')
        try:
            facts = json.loads(path.read_text())
            same = facts.get('training', {}).get('identity') == identity
            return float(facts['validation'][self.figure]) if same else float('inf')
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"'{path}' has no figure '{self.figure}' of a training to go on with ({error!r}): choose "
                             'another folder, or remove this one') from error


def fit_best(loss: nn.Module, data: TrainingSet, folder: str | Path, config: FitConfig, *,
             measure: Callable[[AtomPredictor], dict[str, float]], figure: str, augment: Augment | None = None,
             progress: bool = False, **facts) -> AtomPredictor:
    r"""Trains a predictor with :func:`fit` in :obj:`folder/training` and returns the model that did best on validation
    data, which stands in :obj:`folder/model`.

    Args:
        loss (Module): What is minimized, such as :class:`PropertyLoss`, with the predictor as :obj:`loss.model`.
        data (TrainingSet): The molecules.
        folder (str or Path): Gets both folders.
        config (FitConfig): How to train; the model is measured every :obj:`evaluate_every` steps and at the end.
        measure (callable): Figures of the averaged model: :obj:`measure(model)`. They go to the log and to the
            configuration file, with :obj:`'val_'` before their names.
        figure (str): Which of them decides, the lower the better.
        augment (callable, optional): See :func:`fit`.
        progress (bool): Whether to show a progress bar.
        **facts: What else the configuration file should say. The training domain is said on its own.

    Raises:
        ValueError: As :func:`fit` and :class:`KeepBest` do.
    """
    if isinstance(data, PackedTargets):
        facts['training_domain'] = TrainingDomain.of_molecules(data.atom_columns['z'], data.ptr).to_dict()

    def measured(averaged: nn.Module) -> dict[str, float]:
        return {f'val_{name}': value for name, value in measure(averaged.model).items()}
    keep = KeepBest(Path(folder) / 'model', measured, f'val_{figure}', **facts)
    last = fit(loss, data, Path(folder) / 'training', config, augment=augment, evaluate=keep, progress=progress)
    keep(last)  # the end of the training
    return AtomPredictor.from_pretrained(Path(folder) / 'model')
