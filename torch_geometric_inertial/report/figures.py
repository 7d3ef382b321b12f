r"""The table of figures: values with their intervals, drawn to scale beside those of the reference."""
from __future__ import annotations

import html
from collections.abc import Mapping

from torch_geometric_inertial.metrics.figure import Figure, number
from torch_geometric_inertial.metrics.report import Report

#: In pixels.
WIDTH, ROW = 190, 11


def figures_table(reports: Mapping[str, Report], colors: Mapping[str, str]) -> str:
    r"""An HTML table with a row for each figure and a column for each report, then the reference. Where the reports
    have different references, each has a column of its own."""
    columns: dict[str, list[str]] = {}
    for name, report in reports.items():
        columns.setdefault(report.reference or '', []).append(name)
    head = ''.join(f'<th style="color:{colors[name]}">{html.escape(name)}</th>' for name in reports)
    named = {title: title.split(',')[0] if len(columns) > 1 else 'reference' for title in columns}
    head += ''.join(f'<th>{html.escape(named[title])}</th>' for title in columns)
    rows = []
    for key in dict.fromkeys(key for report in reports.values() for key in report.figures):
        shown = {name: report.figures[key] for name, report in reports.items() if key in report.figures}
        one = next(iter(shown.values()))
        unit = '%' if one.unit == 'fraction' else one.unit
        cells = ''.join(f'<td>{_cell(shown[name]) if name in shown else "–"}</td>' for name in reports)
        for names in columns.values():
            found = next((shown[name] for name in names if name in shown), None)
            cells += f'<td class="ref">{number(found, found.reference).strip() if found else "–"}</td>'
        rows.append(f'<tr><th>{html.escape(key.replace("_", " "))}<small>of {html.escape(one.of)}</small></th>{cells}'
                    f'<td class="unit">{html.escape(unit)}</td><td class="scale">{_scale(shown, colors)}</td></tr>')
    notes = ''.join(f'<p class="note">Reference{" of " + html.escape(", ".join(names)) if len(columns) > 1 else ""}: '
                    f'{html.escape(title)}.</p>' for title, names in columns.items() if title)
    return (f'<table class="figures"><thead><tr><th></th>{head}<th></th><th></th></tr></thead><tbody>{"".join(rows)}'
            f'</tbody></table>{notes}')


def _cell(figure: Figure) -> str:
    value = f'<b>{number(figure).strip()}</b>'
    if figure.interval is None:
        return value
    low, high = (number(figure, end).strip() for end in figure.interval)
    return f'{value} <small>{low} – {high}</small>'


def _scale(shown: Mapping[str, Figure], colors: Mapping[str, str]) -> str:
    r"""Values with whiskers over the interval, and a line at each reference."""
    figures = list(shown.values())
    points = [x for one in figures for x in (one.value, one.reference, *(one.interval or ())) if x is not None]
    if not points:
        return ''
    low, high = (0.0, 1.0) if figures[0].unit == 'fraction' else (min(0.0, *points), max(0.0, *points) * 1.05 or 1.0)
    place = lambda x: round(6 + (WIDTH - 12) * (x - low) / (high - low), 1)  # noqa: E731
    height = ROW * len(figures) + 5
    drawn = [f'<line x1="{place(low)}" x2="{place(high)}" y1="{height - 1}" y2="{height - 1}" stroke="#d5dae0"/>']
    for x in sorted({one.reference for one in figures if one.reference is not None}):
        drawn.append(f'<line x1="{place(x)}" x2="{place(x)}" y1="0" y2="{height}" stroke="#7a828c" '
                     f'stroke-dasharray="2 2"/>')
    for row, (name, one) in enumerate(shown.items()):
        y = ROW * row + ROW / 2 + 1
        if one.interval is not None:
            drawn.append(f'<line x1="{place(one.interval[0])}" x2="{place(one.interval[1])}" y1="{y}" y2="{y}" '
                         f'stroke="{colors[name]}" stroke-width="3" stroke-opacity=".4" stroke-linecap="round"/>')
        if one.value is not None:
            drawn.append(f'<circle cx="{place(one.value)}" cy="{y}" r="3" fill="{colors[name]}"/>')
    return f'<svg width="{WIDTH}" height="{height}">{"".join(drawn)}</svg>'
