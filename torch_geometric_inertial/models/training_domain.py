r"""What a model has learned from, so that it can say where it is asked about something else."""
from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

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
        num_heavy_atoms (tuple, optional): The same as :obj:`num_atoms` without hydrogens; :obj:`None` where types are
            no atomic numbers.

    Raises:
        ValueError: If the sizes are none, or there are no elements.
    """
    num_atoms: tuple[int, int]
    elements: tuple[int, ...]
    formulas: tuple[str, ...] = ()
    num_heavy_atoms: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(distinct=('elements', 'formulas'))
        if not 1 <= self.num_atoms[0] <= self.num_atoms[1]:
            raise ValueError(f"'num_atoms' must be a smallest and a largest number of atoms (got {self.num_atoms})")
        heavy = self.num_heavy_atoms
        if heavy is not None and not 0 <= heavy[0] <= heavy[1] <= self.num_atoms[1]:
            raise ValueError("'num_heavy_atoms' must be a smallest and a largest number of the atoms of a molecule "
                             f'(got {heavy} and {self.num_atoms} atoms)')
        if not self.elements:
            raise ValueError("'elements' must hold at least one type of atoms (got ())")

    @classmethod
    def of_molecules(cls, z: Tensor, ptr: Tensor) -> TrainingDomain:
        r"""That of packed molecules: atomic numbers [N] and offsets [B + 1]."""
        size, formulas, heavy = ptr.diff(), set(), None
        if int(z.min()) > 0:
            count = torch.cat([ptr.new_zeros(1), (z > 1).cumsum(0)])[ptr].diff()
            heavy = int(count.min()), int(count.max())
            for molecule in z.cpu().split(size.tolist()):
                formulas.add(formula(molecule))
                if len(formulas) > MOST_FORMULAS:
                    formulas.clear()
                    break
        return cls((int(size.min()), int(size.max())), tuple(z.unique().tolist()), tuple(sorted(formulas)), heavy)

    @classmethod
    def of_training_set(cls, data: Any) -> TrainingDomain | None:
        r"""That of packed molecules with :obj:`z` and :obj:`ptr`, or what a set on disk states as :obj:`domain`;
        :obj:`None` for others."""
        if isinstance(stated := getattr(data, 'domain', None), dict):
            return cls.of(None, stated)
        z, ptr = getattr(data, 'z', None), getattr(data, 'ptr', None)
        return cls.of_molecules(z, ptr) if isinstance(z, Tensor) and isinstance(ptr, Tensor) else None

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

    def __str__(self) -> str:
        heavy = '' if self.num_heavy_atoms is None else f', {_span(self.num_heavy_atoms)} of them heavy'
        return f"molecules of {_span(self.num_atoms)} atoms{heavy}; types {', '.join(map(_name, self.elements))}"

    def strangeness(self, z: Tensor, lacks: Literal['nothing', 'hydrogens', 'atoms'] = 'nothing') -> str | None:
        r"""How a molecule of these atomic numbers [N] differs from all of the training set; :obj:`None` if it does
        not. Of one that lacks hydrogens the heavy atoms are counted, and one that lacks any atoms may be small."""
        unknown = sorted(set(z.tolist()) - set(self.elements))
        if unknown:
            return f"has elements that the training molecules lack: {', '.join(map(_name, unknown))}"
        if lacks == 'nothing' and self.formulas and (found := formula(z)) not in self.formulas:
            return f"is {found}; all training molecules were {' or '.join(self.formulas)}"
        for size, what, known, is_whole in (
                (int((z > 1).sum()), 'heavy atoms', self.num_heavy_atoms, lacks != 'atoms'),
                (z.numel(), 'atoms', self.num_atoms, lacks == 'nothing')):
            if known is not None and (size > known[1] or (is_whole and size < known[0])):
                return f'has {size} {what}; the training molecules had {_span(known)}'
        return None


def _name(element: int) -> str:
    return SYMBOLS[element] if 0 < element < len(SYMBOLS) else str(element)


def _span(ends: tuple[int, int]) -> str:
    return f'{ends[0]}' if ends[0] == ends[1] else f'{ends[0]} to {ends[1]}'


def formula(z: Tensor) -> str:
    r"""The formula of atomic numbers [N], in Hill's order: carbon, hydrogen, others by their letters."""
    count = Counter(SYMBOLS[k] for k in torch.as_tensor(z).tolist())
    first = [symbol for symbol in ('C', 'H') if symbol in count] if 'C' in count else []
    order = [*first, *sorted(set(count) - set(first))]
    return ''.join(f"{symbol}{count[symbol] if count[symbol] > 1 else ''}" for symbol in order)
