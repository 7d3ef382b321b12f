r"""Figures of real molecules that come with the package, so that a reference stands beside every figure.

``benchmarks/check_metrics.py --write`` measures them.
"""
from __future__ import annotations

import json
from functools import cache
from importlib.resources import files
from typing import Any

from torch_geometric_inertial.metrics.figure import Figure
from torch_geometric_inertial.metrics.protocol import Protocol
from torch_geometric_inertial.metrics.report import Report

#: Share of molecules with more heavy atoms than QM9 has from which on drug-like molecules are the reference.
MANY = 0.05
QM9_SIZE = 9


def bundled_reference(rules: Protocol, report: Report) -> Report:
    r"""The report of bundled data that are nearest to these molecules in size: QM9, or drug-like molecules. Without
    figures where the protocol has not been measured."""
    large = sum(count for size, count in report.sizes.items() if size > QM9_SIZE)
    name = 'drugs' if large > MANY * max(sum(report.sizes.values()), 1) else 'qm9'
    stored = bundled_figures()
    sizes = {int(size): count for size, count in stored['sizes'][name].items()}
    found = stored['protocols'].get(rules.key, {}).get(name, dict(versions={}, num=0, figures={}, distributions={}))
    figures = {key: Figure(value, '') for key, value in found['figures'].items()}
    distributions = {kind: {key: {int(i): n for i, n in bins.items()} for key, bins in types.items()}
                     for kind, types in found['distributions'].items()}
    versions = ', '.join(f'{package} {version}' for package, version in found['versions'].items())
    title = f"{stored['names'][name]}, {found['num']} molecules, {versions}" if found['num'] else (
        f'not measured for {rules.key}: python benchmarks/check_metrics.py --write')
    return Report(rules.name, rules.version, found['versions'], found['num'], figures, (), (), sizes, title,
                  distributions=distributions, compared_within=rules.compared_within)


@cache
def bundled_figures() -> dict[str, Any]:
    r"""``names`` and ``sizes`` of the data sets, and their ``figures`` by each protocol."""
    text = files('torch_geometric_inertial.metrics').joinpath('reference_figures.json').read_text()
    return json.loads(text)
