r"""One number of a report, with all that is needed to read it."""
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_geometric_inertial.metrics.intervals import mean_interval, wilson_interval


@dataclass(frozen=True)
class Figure:
    r"""A number and what it means.

    Args:
        value: The number; :obj:`None` where there is nothing to count. Shares are in [0, 1].
        of: What a fraction is a fraction of, or whose mean it is.
        unit: ``'fraction'``, or the unit of a mean.
        count: Of a fraction: how many.
        total: Of how many.
        interval: 95 % confidence interval.
        reference: The same number on reference data.
        protocol: Id and version of the protocol, such as ``'bonds v1'``.
    """
    value: float | None
    of: str
    unit: str = 'fraction'
    count: int | None = None
    total: int | None = None
    interval: tuple[float, float] | None = None
    reference: float | None = None
    protocol: str = ''

    def __str__(self) -> str:
        scale, digits = (100, 2) if self.unit == 'fraction' else (1, 4)
        ends = '' if self.interval is None else ' – '.join(f'{scale * x:7.{digits}f}' for x in self.interval)
        unit = '%' if self.unit == 'fraction' else self.unit
        return f'{number(self)} {unit:9} {ends:17} {number(self, self.reference)}'.rstrip()


def number(figure: Figure, value: float | None = math.nan) -> str:
    r"""The figure's number, or another of its kind, as it is printed, eight wide."""
    shown = figure.value if value is not None and math.isnan(value) else value
    if shown is None:
        return f'{"–":>8}'
    return f'{100 * shown:8.2f}' if figure.unit == 'fraction' else f'{shown:8.4f}'


def fraction(count: int, total: int, of: str = 'molecules') -> Figure:
    r"""A fraction with Wilson's interval."""
    value = count / total if total else None
    return Figure(value, of, count=count, total=total, interval=wilson_interval(count, total))


def mean(values: Sequence[float], unit: str, of: str) -> Figure:
    r"""A mean with its interval."""
    value = math.fsum(values) / len(values) if values else None
    return Figure(value, of, unit, total=len(values), interval=mean_interval(values))


def median(values: Sequence[float], unit: str, of: str) -> Figure:
    r"""A median, with the interval of the order statistics around it (binomial, 95 %)."""
    n = len(values)
    if n == 0:
        return Figure(None, of, unit, total=0)
    ordered = sorted(values)
    half = 0.5 * 1.959964 * math.sqrt(n)
    low, high = max(0, math.floor(n / 2 - half)), min(n - 1, math.ceil(n / 2 + half))
    middle = 0.5 * (ordered[(n - 1) // 2] + ordered[n // 2])
    return Figure(middle, of, unit, total=n, interval=(ordered[low], ordered[high]))
