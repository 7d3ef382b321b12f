r"""What :func:`evaluate` returns, and reports side by side."""
from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch_geometric_inertial.metrics.figure import Figure, number

#: Kind of quantity -> type of atoms -> bin -> count.
Distributions: TypeAlias = dict[str, dict[str, dict[int, int]]]


@dataclass(frozen=True)
class Report:
    r"""Figures of a set of molecules under a named protocol. Each is an attribute, too: ``report.validity`` is
    ``report.figures['validity'].value``. Shares are in [0, 1]; their denominator is the number of molecules
    *requested*, less those with an element that the protocol does not know, unless :attr:`Figure.of` says otherwise.

    Args:
        protocol: Id of the protocol.
        protocol_version: Its version.
        versions: Of the packages that took part.
        num_requested: How many molecules were asked for.
        figures: By name, in the order in which they are printed.
        status: Of each molecule: see :data:`STATUSES`.
        smiles: Of each valid molecule, :obj:`None` else.
        sizes: How many molecules have each number of heavy atoms.
        reference: What the reference column is made of.
        values: Further results, one a molecule each.
        distributions: Histograms that the protocol compares: kind -> type -> bin -> count.
        compared_within: Packages of which reports must have the same version to be compared.
    """
    protocol: str
    protocol_version: int
    versions: dict[str, str]
    num_requested: int
    figures: dict[str, Figure]
    status: tuple[str, ...]
    smiles: tuple[str | None, ...]
    sizes: dict[int, int]
    reference: str | None = None
    values: dict[str, tuple] = field(default_factory=dict)
    distributions: Distributions = field(default_factory=dict)
    compared_within: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        figures = self.__dict__.get('figures', {})
        if name not in figures:
            raise AttributeError(f"the report of protocol '{self.__dict__.get('protocol')}' has no '{name}' "
                                 f"(its figures are {', '.join(figures)})")
        return figures[name].value

    @property
    def key(self) -> str:
        r"""What figures must share to be comparable."""
        versions = ''.join(f', {name} {self.versions.get(name)}' for name in self.compared_within)
        return f'{self.protocol} v{self.protocol_version}{versions}'

    @property
    def intervals(self) -> dict[str, tuple[float, float]]:
        r"""The 95 % confidence interval of each figure that has one."""
        return {name: one.interval for name, one in self.figures.items() if one.interval is not None}

    def failures(self) -> dict[str, int]:
        """How many molecules have each status, commonest first."""
        return dict(Counter(self.status).most_common())

    def to_dict(self) -> dict[str, Any]:
        r"""As it is stored: all fields, and the value of each figure under its own name beside them."""
        values = {name: one.value for name, one in self.figures.items()}
        return values | dataclasses.asdict(self) | dict(failures=self.failures())

    def to_json(self) -> str:
        return json.dumps(self.to_dict(), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Report:
        r"""Reads a report.

        Raises:
            ValueError: If the text is no report.
        """
        try:
            stored = json.loads(text)
            fields = {one.name: stored[one.name] for one in dataclasses.fields(cls)}
            fields['figures'] = {name: Figure(**one | dict(interval=one['interval'] and tuple(one['interval'])))
                                 for name, one in fields['figures'].items()}
            fields['sizes'] = {int(size): count for size, count in fields['sizes'].items()}
            fields['values'] = {name: tuple(column) for name, column in fields['values'].items()}
            fields['distributions'] = {
                kind: {name: {int(i): n for i, n in bins.items()} for name, bins in types.items()}
                for kind, types in fields['distributions'].items()}
            for name in ('status', 'smiles', 'compared_within'):
                fields[name] = tuple(fields[name])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"'text' must be a report in JSON (got {text[:60]!r}: {error})") from None
        return cls(**fields)

    def __str__(self) -> str:
        versions = ', '.join(f'{name} {version}' for name, version in self.versions.items())
        head = f'{self.protocol} v{self.protocol_version}, {versions}, {self.num_requested} requested'
        width = max(20, *map(len, self.figures))
        columns = f'{"":{width}} {"":8} {"":9} {"95 % interval":17} {"reference":>9}'
        rows = [f'{name.replace("_", " "):{width}} {one}' for name, one in self.figures.items()]
        counts = self.failures()
        unknown = counts.pop('unknown_element', 0)
        notes = [f'not judged: {unknown} with an element that {self.protocol} does not know'] if unknown else []
        notes += [f'reference: {self.reference}'] if self.reference else []
        verdicts = ', '.join(f'{count} {name}' for name, count in counts.items())
        return '\n'.join([head, columns, *rows, *notes, f'verdicts: {verdicts}'])


def check_comparable(reports: Mapping[str, Report]) -> None:
    r"""Raises a :obj:`ValueError` where reports must not be compared."""
    if len({report.key for report in reports.values()}) > 1:
        listed = '; '.join(f'{name}: {report.key}' for name, report in reports.items())
        raise ValueError(f'reports of different protocols cannot be compared ({listed})')


def comparison(reports: Mapping[str, Report]) -> str:
    r"""A table with a column for each report.

    Raises:
        ValueError: If the reports are of different protocols, or there is none.
    """
    if not reports:
        raise ValueError("'reports' must hold at least one report (got none)")
    check_comparable(reports)
    width = max(8, *(len(name) for name in reports)) + 2
    first = next(iter(reports.values()))
    names = list(dict.fromkeys(name for report in reports.values() for name in report.figures))
    lines = [first.key, ' ' * 21 + ''.join(f'{name:>{width}}' for name in reports)]
    for name in names:
        cells = [number(report.figures[name]) if name in report.figures else '–' for report in reports.values()]
        unit = next(report.figures[name].unit for report in reports.values() if name in report.figures)
        lines.append(f'{name.replace("_", " "):21}' + ''.join(f'{cell:>{width}}' for cell in cells)
                     + f'  {"%" if unit == "fraction" else unit}')
    lines.append(f'{"requested":21}' + ''.join(f'{report.num_requested:>{width}}' for report in reports.values()))
    return '\n'.join(lines)
