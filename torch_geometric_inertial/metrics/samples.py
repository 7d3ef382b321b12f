r"""Figures of what a generator writes while it learns."""
from __future__ import annotations

from typing import Any

from torch_geometric_inertial.metrics.evaluate import evaluate
from torch_geometric_inertial.metrics.protocol import get_protocol

PREFIX = 'sample_'  #: Before the names of figures of what the model writes.
#: Of these, a protocol has those that it knows.
FIGURES = ('ok', 'atom_stability', 'molecule_stability', 'validity', 'connected', 'uniqueness')


class SampleMetrics:
    r"""An :obj:`evaluate` of :func:`~torch_geometric_inertial.training.fit`: shares of the molecules that the model
    writes, with :obj:`sample_` before their names; one that has no value, such as the uniqueness of none, is left out.
    The molecules are drawn with the same random numbers each time.

    Args:
        num_samples (int): How many are written; failures count.
        protocol (str, optional): Of :func:`~torch_geometric_inertial.metrics.evaluate`. (default: :obj:`'bonds'` for a
            model that writes bonds, :obj:`'edm-qm9'` for others)
        seed (int): Of the molecules. (default: :obj:`0`)

    Raises:
        ValueError: If there is no such protocol, or the number is not positive.
    """
    def __init__(self, num_samples: int, protocol: str | None = None, seed: int = 0):
        if num_samples < 1:
            raise ValueError(f"'num_samples' must be at least 1 (got {num_samples})")
        if protocol is not None:
            get_protocol(protocol)
        self.num_samples, self.protocol, self.seed = num_samples, protocol, seed

    def __call__(self, model: Any, step: int | None = None) -> dict[str, float]:
        protocol = self.protocol or ('bonds' if model.writes_bonds else 'edm-qm9')
        report = evaluate(model.generate(self.num_samples, seed=self.seed), protocol, num_requested=self.num_samples)
        found = {name: report.figures[name].value for name in FIGURES if name in report.figures}
        return {f'{PREFIX}{name}': value for name, value in found.items() if value is not None}
