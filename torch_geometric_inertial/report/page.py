r"""The page that :func:`write_report` writes: figures, histograms, failures and molecules of one or several files."""
from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import has_orders
from torch_geometric_inertial.files import write_atomically
from torch_geometric_inertial.metrics import STATUSES, evaluate
from torch_geometric_inertial.metrics.bundled import bundled_reference
from torch_geometric_inertial.metrics.evaluate import judge, judge_reference
from torch_geometric_inertial.metrics.inputs import as_items
from torch_geometric_inertial.metrics.preflight import Molecules
from torch_geometric_inertial.metrics.protocol import Protocol, get_protocol
from torch_geometric_inertial.metrics.report import Report
from torch_geometric_inertial.report.document import document, filled
from torch_geometric_inertial.report.figures import figures_table
from torch_geometric_inertial.report.histograms import histograms
from torch_geometric_inertial.report.library import static
from torch_geometric_inertial.report.reasons import reason
from torch_geometric_inertial.report.scene import facts_of, graph_of, palette, scene_of

WORST = 12  #: So many failures are always among the molecules that are shown.
#: Of the files, in their order.
COLORS = ('#2f6fde', '#d9622b', '#1f9d6b', '#9a4fc4', '#b8860b', '#c2336d')


class Judged(NamedTuple):
    r"""A file, its report, and its histograms beside those of the reference."""
    items: list[Data | Exception | None]
    report: Report
    geometry: Report | None
    reference: Report


def write_report(
    molecules: Mapping[str, Molecules | str | Path],
    out: str | Path,
    protocol: str | None = None,
    reference: Molecules | str | Path | None = None,
    num_shown: int = 100,
    workers: int | None = None,
) -> dict[str, Report]:
    r"""Judges sets of molecules by one protocol, and writes a page that shows them side by side: their figures with
    intervals and the reference, histograms over those of the reference, failures with reasons, and the molecules in
    three dimensions. The page is one file and needs no network.

    Args:
        molecules: Name -> molecules, as :func:`~torch_geometric_inertial.metrics.evaluate` takes them; at most six.
        out: The page, ``.html``.
        protocol: Of :func:`~torch_geometric_inertial.metrics.evaluate`. By default ``'bonds'`` where all molecules of
            all sets bring their bonds, and ``'edm-qm9'`` elsewhere.
        reference: Real molecules to compare with; by default the data that come with the package.
        num_shown: How many molecules of each set are drawn: the worst 12 failures, and the first others.
        workers: Processes to judge in. (default: one)

    Returns:
        The report of each set.

    Raises:
        ValueError: If a set cannot be judged, there is none or more than six, or :obj:`out` does not end in .html.
        ImportError: Without RDKit, or another package that the protocol needs.
    """
    if not molecules or len(molecules) > len(COLORS):
        raise ValueError(f"'molecules' must be 1 to {len(COLORS)} sets (got {len(molecules)})")
    if Path(out).suffix.lower() not in ('.html', '.htm'):
        raise ValueError(f"'out' must end in .html (got '{out}')")
    if Path(out).is_dir():
        raise ValueError(f"'out' must be a file, not a folder (got '{out}')")
    if num_shown < 1:
        raise ValueError(f"'num_shown' must be at least 1 (got {num_shown})")
    sets = {name: as_items(one) for name, one in molecules.items()}
    if protocol is None:
        bonded = all(data.get('edge_index') is not None for items in sets.values() for data in items
                     if isinstance(data, Data))
        protocol = 'bonds' if bonded else 'edm-qm9'
    rules, geometry = get_protocol(protocol), get_protocol('geometry')
    given = None if reference is None else as_items(reference, 'reference')
    beside = None if given is None else judge_reference(given, rules, workers)
    real = None if given is None or not _any_bonds(given) else judge_reference(given, geometry, workers)
    judged = {}
    for name, items in sets.items():
        report = evaluate(items, protocol, beside, workers=workers)
        shapes = judge(items, geometry, None, workers) if _any_bonds(items) else None
        compared = real or beside or bundled_reference(geometry, report)
        judged[name] = Judged(items, report, shapes, dataclasses.replace(compared, reference=compared.reference or
                                                                         report.reference))
    page = _page(judged, rules, num_shown)
    write_atomically(out, lambda temporary: temporary.write_text(page, encoding='utf-8'))
    return {name: one.report for name, one in judged.items()}


def _any_bonds(items: list[Data | Exception | None]) -> bool:
    return any(isinstance(data, Data) and data.get('edge_index') is not None for data in items)


def _page(judged: Mapping[str, Judged], rules: Protocol, num_shown: int) -> str:
    colors = dict(zip(judged, COLORS, strict=False))
    reports = {name: one.report for name, one in judged.items()}
    names = list(judged)
    drawn = {name: _molecules(one, rules, num_shown) for name, one in judged.items()}
    shown = [molecule | dict(set=i) for i, name in enumerate(names) for molecule in drawn[name]]
    used = {symbol for molecule in shown for symbol in molecule.get('elem', ())}
    data = dict(
        sets=[dict(name=name, color=colors[name], total=len(judged[name].items), failures=reports[name].failures())
              for name in names],
        molecules=shown,
        palette={symbol: one for symbol, one in palette().items() if symbol in used},
        statuses=STATUSES,
        worst=WORST,
    )
    first = next(iter(reports.values()))
    versions = ', '.join(f'{name.replace("torch_geometric_inertial", "inertial")} {version}'
                         for name, version in first.versions.items())
    title = html.escape(', '.join(names))
    parts = dict(
        title=title,
        subtitle=html.escape(f'protocol {first.key} · {versions}'),
        legend=''.join(f'<span class="set"><i style="background:{colors[name]}"></i>{html.escape(name)} '
                       f'<small>{reports[name].num_requested:,} molecules</small></span>' for name in names),
        figures=figures_table(reports, colors),
        histograms=histograms({name: one.geometry or one.report for name, one in judged.items()},
                              {name: one.reference for name, one in judged.items()}, colors),
        rules=html.escape(' '.join((rules.__doc__ or '').split()).partition('. ')[0].replace('``', '') + '.'),
    )
    return document(filled(static('page.html'), parts), title, data, css='', script=static('page.js'))


def _molecules(judged: Judged, rules: Protocol, num_shown: int) -> list[dict[str, Any]]:
    r"""The worst failures, and the first of the others up to the number that is wanted, in the order of the file."""
    report, severity = judged.report, list(STATUSES)
    failed = [i for i, status in enumerate(report.status) if status not in ('ok', 'missing', 'unknown_element')]
    worst = sorted(failed, key=lambda i: (severity.index(report.status[i]), i))[:WORST]
    chosen = worst[:num_shown]
    chosen += [i for i in range(len(report.status)) if i not in chosen][:num_shown - len(chosen)]
    return [_molecule(judged, rules, i) for i in sorted(chosen)]


def _molecule(judged: Judged, rules: Protocol, i: int) -> dict[str, Any]:
    item, report = judged.items[i], judged.report
    status = report.status[i]
    shown: dict[str, Any] = dict(number=i, status=status, reason=STATUSES[status], title='')
    if report.smiles[i] is not None:
        shown['smiles'] = report.smiles[i]
    if not isinstance(item, Data):
        return shown | (dict(reason=str(item)) if item is not None else {})
    shown |= facts_of(item)
    try:
        graph = graph_of(item)
    except ValueError as error:
        return shown | dict(reason=str(error))
    shown |= scene_of(graph)
    # A protocol that finds bonds by rules of its own does not judge those that are drawn.
    if rules.needs_bonds or (rules.name.startswith('edm-') and not has_orders(item)):
        shown['reason'], shown['bad'] = reason(graph, status)
    failed = [name.replace('_', ' ') for name, column in report.values.items() if column[i] is False]
    if failed:
        shown['reason'] = 'fails ' + ', '.join(failed)
    return shown


