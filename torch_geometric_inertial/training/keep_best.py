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

    A training that is resumed goes on from the figure that stands in the folder.
    """
    def __init__(self, folder: str | Path, measure: Callable[[nn.Module], dict[str, float]], figure: str, **facts):
        self.folder, self.measure, self.figure, self.facts = Path(folder), measure, figure, facts
        config = self.folder / CONFIG_FILE
        self.best = json.loads(config.read_text())['validation'][figure] if config.is_file() else float('inf')

    def __call__(self, loss: nn.Module, step: int) -> dict[str, float]:
        figures = self.measure(loss)
        if self.figure not in figures:
            raise ValueError(f"'measure' must give '{self.figure}' (got {sorted(figures)})")
        if figures[self.figure] < self.best:
            self.best = figures[self.figure]
            loss.model.save_pretrained(self.folder, validation=dict(step=step, **figures), **self.facts)
        return figures
