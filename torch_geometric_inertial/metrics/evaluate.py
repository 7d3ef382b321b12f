r"""One call that judges a set of molecules."""
from __future__ import annotations

import dataclasses
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.metrics.bundled import bundled_reference
from torch_geometric_inertial.metrics.figure import Figure
from torch_geometric_inertial.metrics.inputs import as_items
from torch_geometric_inertial.metrics.novelty import novelty
from torch_geometric_inertial.metrics.preflight import Molecules, screen
from torch_geometric_inertial.metrics.protocol import Protocol, get_protocol
from torch_geometric_inertial.metrics.report import Report, check_comparable
from torch_geometric_inertial.metrics.sizes import size_histogram, total_variation


def evaluate(
    molecules: Molecules | str | Path,
    protocol: str | None = None,
    reference: Molecules | str | Path | Report | frozenset[str] | set[str] | None = None,
    num_requested: int | None = None,
    workers: int | None = None,
) -> Report:
    r"""Judges generated molecules. Whatever failed counts as a failure: the denominator is the number requested.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); bonds in ``edge_index`` [2, E] and ``edge_attr`` [E]
            (1, 2, 3), ``formal_charge`` [N] and ``finished`` where they have them; :obj:`None` for a failed one.
            RDKit molecules, ASE atoms and the path of a file are taken, too.
        protocol: One of :func:`protocol_names`. By default ``'bonds'`` where all molecules have bonds, and
            ``'edm-qm9'`` elsewhere.
        reference: Real molecules, or their report by the same protocol: their figures stand beside, sizes are compared
            with theirs, and molecules that they do not hold are novel. Or SMILES, of :func:`reference_smiles`, for the
            novelty alone. By default the figures of the data that comes with the package stand beside: QM9 for
            molecules like those of QM9, drug-like molecules else.
        num_requested: How many molecules were asked for; by default as many as are given.
        workers: Processes to judge in. (default: one)

    Raises:
        ValueError: On an unknown protocol, malformed molecules, no molecules, more molecules than requested, bonds that
            the protocol needs and no molecule has, or a reference of another protocol.
        ImportError: Without RDKit, or another package that the protocol needs.
    """
    if workers is not None and workers < 1:
        raise ValueError(f"'workers' must be at least 1 (got {workers})")
    items = as_items(molecules)
    rules = get_protocol(default_protocol(items) if protocol is None else protocol)
    report = judge(items, rules, num_requested, workers)
    known: frozenset[str] | None = None
    if isinstance(reference, set | frozenset):
        known, reference = frozenset(reference), None
    if reference is None:
        beside = bundled_reference(rules, report)
    else:
        beside = reference if isinstance(reference, Report) else judge_reference(reference, rules, workers)
        check_comparable({'molecules': report, 'reference': beside})
        known = frozenset(s for s in beside.smiles if s is not None)
    figures = report.figures | rules.compare(report.distributions, beside.distributions)
    if 'uniqueness' in figures:
        figures['novelty'] = Figure(None, 'unique') if known is None else novelty(report.smiles, known)
    figures['size_distance'] = Figure(total_variation(report.sizes, beside.sizes), 'heavy atoms', 'TV')
    columns = {name: one.value for name, one in beside.figures.items() if name not in ('novelty', 'size_distance')}
    figures = {name: dataclasses.replace(one, reference=columns.get(name), protocol=rules.key)
               for name, one in figures.items()}
    return dataclasses.replace(report, figures=figures, reference=beside.reference or f'{beside.num_requested} given')


def judge(items: list, rules: Protocol, num_requested: int | None = None, workers: int | None = None) -> Report:
    r"""The report of molecules by themselves."""
    versions = {name: package_version(name, rules.name) for name in ('torch_geometric_inertial', *rules.packages)}
    screened = screen(items, rules.elements, num_requested)
    if not screened.status:
        raise ValueError("'molecules' must hold at least one molecule, or 'num_requested' be at least 1 (got none)")
    if rules.needs_bonds and not any(data is None or data.get('edge_index') is not None for data in screened.items):
        raise ValueError(f"protocol '{rules.name}' needs the bonds of the molecules in 'edge_index' (got none; "
                         f"'edm-qm9', 'edm-geom' and 'xyz2mol-ctd' find bonds by themselves)")
    found = rules.judge(screened, workers)
    return Report(
        protocol=rules.name,
        protocol_version=rules.version,
        versions=versions,
        num_requested=len(screened.status),
        figures={name: dataclasses.replace(one, protocol=rules.key) for name, one in found.figures.items()},
        status=tuple(found.status),
        smiles=tuple(found.smiles),
        sizes=size_histogram(screened),
        values={name: tuple(column) for name, column in found.values.items()},
        distributions=found.distributions,
        compared_within=rules.compared_within,
    )


def judge_reference(molecules: Molecules | str | Path, rules: Protocol, workers: int | None = None) -> Report:
    r"""The report of reference data. What compares distributions compares its two halves: their distance is that of
    two samples of the same molecules."""
    items = as_items(molecules, 'reference')
    report = judge(items, rules, None, workers)
    if report.distributions and len(items) > 1:
        halves = [judge(items[i::2], rules, None, workers).distributions for i in (0, 1)]
        figures = {name: dataclasses.replace(one, protocol=rules.key)
                   for name, one in rules.compare(*halves).items()}
        report = dataclasses.replace(report, figures=report.figures | figures)
    return report


def reference_smiles(molecules: Molecules | str | Path, protocol: str = 'edm-qm9') -> frozenset[str]:
    r"""The SMILES of known molecules, by the same inference as for generated ones, so that the two can be compared."""
    return frozenset(s for s in judge(as_items(molecules), get_protocol(protocol)).smiles if s is not None)


def package_version(name: str, protocol: str) -> str:
    r"""The version of an installed package.

    Raises:
        ImportError: If it is not there, with what to do.
    """
    try:
        return import_module(name).__version__ if name in ('rdkit', 'torch_geometric_inertial') else version(name)
    except ImportError as error:  # PackageNotFoundError is one
        raise ImportError(f"protocol '{protocol}' needs {name}: pip install {name}") from error


def default_protocol(items: list) -> str:
    r"""``'bonds'`` where all molecules that came have bonds, ``'edm-qm9'`` elsewhere."""
    present = [data for data in items if isinstance(data, Data)]
    bonded = bool(present) and all(data.get('edge_index') is not None for data in present)
    return 'bonds' if bonded else 'edm-qm9'
