r"""The weights that did best on validation data, on disk."""
from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from torch import nn

from torch_geometric_inertial.models.pretrained import CONFIG_FILE


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
