r"""What a model has learned from, so that it can say where it is asked about something else."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.models.config import ModelConfig

MOST_FORMULAS = 20  #: Training sets of more formulas than that are described by sizes and elements alone.


@dataclass(frozen=True)
class TrainingDomain(ModelConfig):
    r"""The molecules of a training set; stands in the :obj:`config.json` of its model as :obj:`training_domain`.

    Args:
        num_atoms (tuple): Atoms of the smallest and of the largest molecule.
        elements (tuple): Atomic numbers, or other types of atoms.
        formulas (tuple): Their formulas in Hill's order, if they are few; empty otherwise.

    Raises:
        ValueError: If the sizes are none, or there are no elements.
    """
    num_atoms: tuple[int, int]
    elements: tuple[int, ...]
    formulas: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(distinct=('elements', 'formulas'))
        if not 1 <= self.num_atoms[0] <= self.num_atoms[1]:
            raise ValueError(f"'num_atoms' must be a smallest and a largest number of atoms (got {self.num_atoms})")
        if not self.elements:
            raise ValueError("'elements' must hold at least one type of atoms (got ())")

    @classmethod
    def of_molecules(cls, z: Tensor, ptr: Tensor) -> TrainingDomain:
        r"""That of packed molecules: atomic numbers [N] and offsets [B + 1]."""
        size, formulas = ptr.diff(), set()
        if int(z.min()) > 0:
            for molecule in z.cpu().split(size.tolist()):
                formulas.add(formula(molecule))
                if len(formulas) > MOST_FORMULAS:
                    formulas.clear()
                    break
        return cls((int(size.min()), int(size.max())), tuple(sorted(set(z.tolist()))), tuple(sorted(formulas)))

    @classmethod
    def of_facts(cls, facts: Mapping[str, Any]) -> TrainingDomain | None:
        r"""That of a :obj:`config.json`; :obj:`None` if it does not state one.

        Raises:
            ValueError: If what it states is none.
        """
        stated = facts.get('training_domain')
        if stated is None:
            return None
        if not isinstance(stated, Mapping) or not {'num_atoms', 'elements'} <= set(stated):
            raise ValueError(f"'training_domain' must have 'num_atoms' and 'elements' (got {stated!r:.80})")
        return cls.of(None, dict(stated))

    def strangeness(self, z: Tensor) -> str | None:
        r"""How a molecule of these atomic numbers [N] differs from all of the training set; :obj:`None` if it does
        not."""
        unknown = sorted(set(z.tolist()) - set(self.elements))
        if unknown:
            names = ', '.join(SYMBOLS[k] if 0 < k < len(SYMBOLS) else str(k) for k in unknown)
            return f'has elements that the training molecules lack: {names}'
        low, high = self.num_atoms
        if self.formulas and (found := formula(z)) not in self.formulas:
            return f"is {found}; all training molecules were {' or '.join(self.formulas)}"
        if not low <= z.numel() <= high:
            size = f'{low}' if low == high else f'{low} to {high}'
            return f'has {z.numel()} atoms; the training molecules had {size}'
        return None


def formula(z: Tensor) -> str:
    r"""The formula of atomic numbers [N], in Hill's order: carbon, hydrogen, others by their letters."""
    count = Counter(SYMBOLS[k] for k in torch.as_tensor(z).tolist())
    first = [symbol for symbol in ('C', 'H') if symbol in count] if 'C' in count else []
    order = [*first, *sorted(set(count) - set(first))]
    return ''.join(f"{symbol}{count[symbol] if count[symbol] > 1 else ''}" for symbol in order)
