r"""What a protocol is. Figures of different protocols are not comparable."""
from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar, NamedTuple

from torch_geometric_inertial.elements import ATOMIC_NUMBERS
from torch_geometric_inertial.metrics.figure import Figure, fraction
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.report import Distributions

#: What a molecule may be found to be, in the order in which it is asked.
STATUSES: dict[str, str] = {
    'missing': 'nothing came',
    'unreadable': 'a record that could not be read',
    'empty': 'no atoms',
    'unfinished': 'cut off before its end',
    'not_finite': 'a position that is no number',
    'unknown_element': 'an element that the protocol does not know: not judged, and in no denominator',
    'clash': 'atoms that are no neighbors and nearer than any such atoms are',
    'perception_failed': 'no bonds: none came with it, or none could be found',
    'timeout': 'not judged in time',
    'valence': 'an atom with a valence that its element and charge do not have',
    'radical': 'an unpaired electron',
    'disconnected': 'more than one piece',
    'implausible': 'a geometry that its bonds do not have',
    'ok': 'none of these',
}


class Judged(NamedTuple):
    r"""What a protocol found, for each requested molecule, and its figures.

    Attributes:
        status: One of :data:`STATUSES` each.
        smiles: SMILES of each valid molecule, :obj:`None` else.
        figures: In the order in which they are printed.
        values: Further results, one a molecule.
        distributions: What :meth:`Protocol.compare` compares.
    """
    status: list[str]
    smiles: list[str | None]
    figures: dict[str, Figure]
    values: dict[str, list]
    distributions: Distributions = {}  # noqa: RUF012 (a default of a tuple's field, never written to)


class Protocol(ABC):
    r"""A way to judge molecules: one file in ``metrics/protocols``, named after it, that holds one as ``PROTOCOL``.

    Attributes:
        name: Its id.
        version: Raised whenever a change of rules could change a number.
        elements: Atomic numbers that it knows.
        needs_bonds: Whether molecules must bring their bonds.
        packages: Packages that take part; their versions stand in the report.
        compared_within: Those of them of which reports must have the same version to be compared.
    """
    name: ClassVar[str]
    version: ClassVar[int]
    elements: ClassVar[tuple[int, ...]] = tuple(range(1, 119))
    needs_bonds: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ('rdkit', )
    compared_within: ClassVar[tuple[str, ...]] = ()

    @property
    def key(self) -> str:
        return f'{self.name} v{self.version}'

    @abstractmethod
    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        r"""Judges molecules; only those that the preflight left ``'ok'`` need be looked at."""

    def compare(self, distributions: Distributions, reference: Distributions) -> dict[str, Figure]:
        r"""Figures of how far distributions are from those of the reference; none by default."""
        return {}


def protocol_names() -> tuple[str, ...]:
    r"""The ids of all protocols."""
    folder = import_module('torch_geometric_inertial.metrics.protocols')
    return tuple(sorted(module.name.replace('_', '-') for module in iter_modules(folder.__path__)))


def get_protocol(name: str) -> Protocol:
    r"""The protocol of this id.

    Raises:
        ValueError: If there is none.
    """
    if name not in protocol_names():
        raise ValueError(f"'protocol' must be one of {', '.join(protocol_names())} (got {name!r})")
    return import_module(f'torch_geometric_inertial.metrics.protocols.{name.replace("-", "_")}').PROTOCOL


def atomic_numbers(symbols: str) -> tuple[int, ...]:
    return tuple(sorted(ATOMIC_NUMBERS[symbol] for symbol in symbols.split()))


def judged_total(status: Sequence[str]) -> int:
    r"""The denominator: all requested molecules but those with an element that the protocol does not know."""
    return len(status) - list(status).count('unknown_element')


def graph_figures(status: Sequence[str], smiles: Sequence[str | None], connected: Sequence[bool]) -> dict[str, Figure]:
    r"""The figures of protocols that judge bonds: ``ok``; ``validity``, which asks for closed shells but not for one
    piece; ``connected``; ``uniqueness`` of the valid; ``valid_and_unique``."""
    total, valid = judged_total(status), [s for s in smiles if s is not None]
    return {
        'ok': fraction(list(status).count('ok'), total),
        'validity': fraction(len(valid), total),
        'connected': fraction(sum(connected), total),
        'uniqueness': fraction(len(set(valid)), len(valid), 'valid'),
        'valid_and_unique': fraction(len(set(valid)), total),
    }
