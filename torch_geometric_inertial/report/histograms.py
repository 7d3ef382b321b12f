r"""Histograms of molecules over those of the reference, as inline SVG."""
from __future__ import annotations

import html
from collections.abc import Mapping

from torch_geometric_inertial.metrics.histograms import WIDTHS, Histogram, jensen_shannon
from torch_geometric_inertial.metrics.report import Report

#: In pixels: size, and what is left for the axis.
WIDTH, HEIGHT, AXIS = 250, 120, 16
#: Kind -> how many types are drawn, those that the reference has most often.
SHOWN = {'bond_lengths': 6, 'bond_angles': 4, 'torsions': 4, 'ring_sizes': 1}
TITLES = {'bond_lengths': 'bond length', 'bond_angles': 'angle', 'torsions': 'torsion', 'ring_sizes': 'ring size'}
WHOLE_NUMBERS = ('ring_sizes', )
TAIL = 0.002  #: Share of either end of a distribution that is not drawn.


def histograms(reports: Mapping[str, Report], references: Mapping[str, Report], colors: Mapping[str, str]) -> str:
    r"""HTML: sizes in heavy atoms, then the commonest bond lengths, angles, torsions and the ring sizes, each over that
    of the reference, with the Jensen–Shannon divergence from it (bit).

    Args:
        reports: Name -> report, of protocol ``geometry`` where a set brings bonds.
        references: Name -> the report that it is compared with.
        colors: Name -> color.
    """
    reference = next(iter(references.values()))
    charts = [_chart('heavy atoms', '', {name: report.sizes for name, report in reports.items()}, reference.sizes, 1.0,
                     True, colors)]
    for kind, shown in SHOWN.items():
        width, unit = WIDTHS[kind]
        types: dict[str, int] = {}
        for found in [reference] if reference.distributions.get(kind) else list(reports.values()):
            for name, bins in found.distributions.get(kind, {}).items():
                types[name] = types.get(name, 0) + sum(bins.values())
        for name in sorted(types, key=lambda one: -types[one])[:shown]:
            own = {key: report.distributions.get(kind, {}).get(name, {}) for key, report in reports.items()}
            title = TITLES[kind] if kind in WHOLE_NUMBERS else f'{TITLES[kind]} {name}'
            charts.append(_chart(title, unit, own, reference.distributions.get(kind, {}).get(name, {}), width,
                                 kind in WHOLE_NUMBERS, colors))
    bare = [name for name, report in reports.items() if not report.distributions]
    note = f'Reference, gray: {reference.reference}. ' if reference.reference else 'Reference, gray. '
    note += 'JS: Jensen–Shannon divergence from the reference (bit), 0 if alike, 1 if nothing is shared. '
    note += 'What lies outside a chart is in its outermost bins.'
    if bare:
        note += f' No bonds came with {", ".join(bare)}, so that only the sizes are counted.'
    return f'<div class="charts">{"".join(charts)}</div><p class="note">{html.escape(note)}</p>'


def _chart(title: str, unit: str, own: Mapping[str, Histogram], reference: Histogram, width: float, whole: bool,
           colors: Mapping[str, str]) -> str:
    drawn = {name: bins for name, bins in own.items() if sum(bins.values())}
    everything = [bins for bins in (reference, *drawn.values()) if sum(bins.values())]
    if not everything:
        return ''
    low, high = min(_quantile(bins, TAIL) for bins in everything), max(_quantile(bins, 1 - TAIL) for bins in everything)
    if sum(reference.values()):  # few samples with wild values must not squeeze the reference
        first, last = _quantile(reference, TAIL), _quantile(reference, 1 - TAIL)
        low, high = max(low, first - (last - first) // 3), min(high, last + (last - first) // 3)
    low, high = low - 1, high + 1
    step = 1 if whole else max(1, round((high - low) / 50))
    densities = {name: _density(bins, low, high, step) for name, bins in (('', reference), *drawn.items())}
    top = max(max(one) for one in densities.values()) or 1.0
    marks = [f'<path d="{_steps(densities[""], top, True)}" fill="#dfe3e8" stroke="#aab2bc" stroke-width=".8"/>']
    marks += [f'<path d="{_steps(densities[name], top, False)}" fill="none" stroke="{colors[name]}" '
              f'stroke-width="1.6"/>' for name in drawn]
    middle = (low + high) / 2
    for place, anchor in ((low + 1, 'start'), (middle, 'middle'), (high - 1, 'end')):
        x = WIDTH * (place - low + 0.5) / (high - low + 1)
        value = f'{place:.0f}' if whole else f'{place * width:.4g}'
        marks.append(f'<text x="{x:.0f}" y="{HEIGHT + 12}" text-anchor="{anchor}">{value}</text>')
    marks.append(f'<line x1="0" x2="{WIDTH}" y1="{HEIGHT}" y2="{HEIGHT}" stroke="#aab2bc"/>')
    apart = ''.join(f'<b style="color:{colors[name]}">{jensen_shannon(bins, reference):.3f}</b> '
                    for name, bins in drawn.items()) if sum(reference.values()) else ''
    caption = f'{html.escape(title)}{f" ({unit})" if unit and not whole else ""}'
    return (f'<figure><figcaption>{caption}<span>{"JS " + apart if apart else ""}</span></figcaption>'
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT + AXIS}">{"".join(marks)}</svg></figure>')


def _quantile(bins: Histogram, fraction: float) -> int:
    total, passed = sum(bins.values()), 0
    for i in sorted(bins):
        passed += bins[i]
        if passed >= fraction * total:
            return i
    return max(bins)


def _density(bins: Histogram, low: int, high: int, step: int) -> list[float]:
    r"""Share of each group of bins from ``low`` to ``high``; what lies outside is in the outermost ones."""
    counts, total = [0.0] * ((high - low) // step + 1), sum(bins.values()) or 1
    for i, count in bins.items():
        counts[(min(max(i, low), high) - low) // step] += count / total
    return counts


def _steps(density: list[float], top: float, closed: bool) -> str:
    each = WIDTH / len(density)
    path = f'M0 {HEIGHT}' + ''.join(f'V{HEIGHT - (HEIGHT - 6) * y / top:.1f}H{(i + 1) * each:.1f}'
                                    for i, y in enumerate(density))
    return f'{path}V{HEIGHT}' + ('Z' if closed else '')
