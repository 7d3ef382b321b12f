r"""A trained predictor as the regressor that judges properties of generated molecules."""
from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.models.pretrained import CONFIG_FILE, locate
from torch_geometric_inertial.models.training_domain import TrainingDomain


class PropertyRegressor:
    r"""Molecules to values of a property, as :func:`property_error` asks for it.

    Args:
        model (AtomPredictor): Predicts one scalar.
        target (str): Which property that is. (default: :obj:`''`)
        unit (str): Its unit. (default: :obj:`''`)
        batch_size (int): Molecules at a time. (default: :obj:`100`)
        domain (TrainingDomain, optional): What the model has learned from. Molecules that differ from all of that give
            a warning, since values may be anything there. :meth:`from_pretrained` reads it. (default: unknown)
        strict (bool): Refuses such molecules instead. (default: :obj:`False`)

    Raises:
        ValueError: If the model predicts something else.
    """
    def __init__(self, model: AtomPredictor, target: str = '', unit: str = '', batch_size: int = 100, *,
                 domain: TrainingDomain | None = None, strict: bool = False):
        c = model.config
        if c.scalar_head == 'none' or c.num_scalars != 1:
            raise ValueError(f"'model' must predict one scalar (got {c.num_scalars}, '{c.scalar_head}')")
        self.model, self.target, self.unit, self.batch_size = model.eval(), target, unit, batch_size
        self.domain, self.strict = domain, strict

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path, *, device: str | torch.device = 'cpu',
                        strict: bool = False) -> PropertyRegressor:
        r"""Loads a predictor with the :obj:`target` and :obj:`unit` that its configuration file states, such as
        ``examples/qm9_properties.py`` writes.

        Raises:
            ValueError: If there is no such model, or it does not state what it predicts.
        """
        folder = locate(name_or_folder)
        model = AtomPredictor.from_pretrained(folder, device=device)
        facts = json.loads((folder / CONFIG_FILE).read_text())
        if not {'target', 'unit'} <= facts.keys():
            raise ValueError(f"'{folder / CONFIG_FILE}' must state the 'target' and the 'unit' of what the model "
                             f"predicts (got {sorted(facts)})")
        return cls(model, facts['target'], facts['unit'], domain=model.training_domain, strict=strict)

    def __call__(self, molecules: Sequence[Data]) -> Tensor:
        r"""Values [B], float64; two atoms in one place are no error here, since generators may write them.

        Raises:
            ValueError: If a molecule holds an element that the predictor does not know; if strict, if it is unlike
                those that it has learned from.
        """
        known = torch.tensor(self.model.config.elements)
        for i, data in enumerate(molecules):
            unknown = ~torch.isin(data.z.cpu(), known)
            if bool(unknown.any()):
                raise ValueError(f"molecule {i} must hold elements of {known.tolist()} (got "
                                 f"{int(data.z.cpu()[unknown][0])})")
        strange = [] if self.domain is None else [
            f'molecule {i} {why}' for i, data in enumerate(molecules) if (why := self.domain.strangeness(data.z))]
        if strange and self.strict:
            raise ValueError(strange[0])
        if strange:
            warnings.warn(f'{len(strange)} of {len(molecules)} molecules are unlike those that the predictor has '
                          f'learned from, and its values may be anything there: {strange[0]}', stacklevel=2)
        values = self.model.predict(molecules, self.batch_size, vectors=False, validate=False).scalars
        assert values is not None
        return values

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target or 'unnamed'} [{self.unit}], {self.model})"
