r"""One piece of a data set in canonical form: what a process does by itself."""
from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.chem import with_bonds
from torch_geometric_inertial.chem.records import Record
from torch_geometric_inertial.datasets.arrow_shards import Columns, Row, row_of, write_shard
from torch_geometric_inertial.transforms import FunctionalGroups, canonical

BATCH, BATCH_PAIRS = 128, 2**20  #: Molecules, and pairs of atoms, that are worked on at once.
EXAMPLES, REASONS = 3, 100  #: Messages kept of each reason why a molecule is left out; reasons that are told apart.
READ = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge')
_PLACE = re.compile(r"^.*: record \d+(?: \('.*?'\))?(?:, line \d+)?: ")
_NUMBER = re.compile(r'\b(atoms?|molecule|line|record) \d+( and \d+)?')

Check = Callable[[Data], object]


class Source(Protocol):
    r"""A piece of a data set."""
    @property
    def size(self) -> int:
        r"""Its share of the work, such as bytes."""
        ...

    def records(self) -> Iterator[Record]:
        r"""Its molecules, and what is wrong with those that it has not."""
        ...


@dataclass(frozen=True)
class Preparation:
    r"""What is done with molecules.

    Args:
        order (str): See :class:`~torch_geometric_inertial.transforms.CanonicalOrder`.
        groups (str, optional): Vocabulary of :class:`~torch_geometric_inertial.transforms.FunctionalGroups`.
        properties (tuple): Names of numbers of molecules to keep.
        max_atoms (int): Larger molecules are left out.

    Raises:
        ValueError: If an order or a vocabulary is unknown, or :obj:`max_atoms` is less than 1.
    """
    order: str = 'heavy_first'
    groups: str | None = None
    properties: tuple[str, ...] = ()
    max_atoms: int = 1000

    def __post_init__(self) -> None:
        if self.max_atoms < 1:
            raise ValueError(f"'max_atoms' must be at least 1 (got {self.max_atoms})")
        canonical(self.order), self.columns()

    def columns(self) -> Columns:
        r"""Of the store."""
        return Columns(True, () if self.groups is None else FunctionalGroups(self.groups).names, self.properties)


class Item(NamedTuple):
    r"""A molecule on its way: atoms and bonds, what it is called, and its properties by name."""
    data: Data
    identifier: str
    properties: dict[str, Any]


def prepare_piece(piece: Source, path: Path, wanted: Preparation, check: Check | None = None) -> dict[str, Any]:
    r"""Writes the molecules of a piece to a file, and returns what was left out and why.

    Raises:
        OSError: If the piece cannot be read or the file cannot be written.
    """
    torch.set_num_threads(1)
    start, columns, report = time.process_time(), wanted.columns(), Counted()
    rows: list[Row] = []
    for batch in _batches(_readable(piece.records(), wanted, report)):
        for data in _canonical(batch, wanted, check, report):
            try:
                rows.append(row_of(data, columns))
            except ValueError as error:
                report.drop(str(error))
    known = [sum(row.properties[k] == row.properties[k] for row in rows) for k in range(len(columns.properties))]
    told = dict(report.told(), known=known, seconds=time.process_time() - start)
    write_shard(path, rows, columns, dict(report=json.dumps(told)))
    return told


class Counted:
    r"""How many molecules were read, and how many were left out for which reason."""
    def __init__(self) -> None:
        self.read, self.reasons, self.examples = 0, Counter(), {}  # type: int, Counter[str], dict[str, list[str]]

    def drop(self, message: str) -> None:
        reason = _NUMBER.sub(r'\1', _PLACE.sub('', message).split(' (')[0])
        if reason not in self.reasons and len(self.reasons) >= REASONS:
            reason = 'other reasons'
        self.reasons[reason] += 1
        if self.reasons[reason] <= EXAMPLES:
            self.examples.setdefault(reason, []).append(message)

    def told(self) -> dict[str, Any]:
        return dict(read=self.read, dropped={reason: dict(count=count, examples=self.examples[reason])
                                             for reason, count in self.reasons.most_common()})


def _readable(records: Iterable[Record], wanted: Preparation, report: Counted) -> Iterator[Item]:
    r"""The molecules with their bonds, as far as they have what is wanted."""
    for record in records:
        report.read += 1
        try:
            if record.molecule is None:
                raise ValueError(record.error)
            data = record.molecule
            if data.z.numel() > wanted.max_atoms:
                raise ValueError(f'more than {wanted.max_atoms} atoms (got {data.z.numel()})')
            if not bool((data.z > 1).any()):
                raise ValueError('nothing but hydrogens')
            data = with_bonds(data)
        except ValueError as error:
            report.drop(str(error))
            continue
        values = data.get('properties', {})
        yield Item(Data.from_dict({name: data[name] for name in READ if name in data}), record.title,
                   {name: data[name] if name in data else values[name] for name in wanted.properties
                    if name in data or name in values})


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    batch: list[Item] = []
    largest = 0
    for item in items:
        size = item.data.z.numel()
        larger = max(largest, size)
        if batch and (len(batch) == BATCH or (len(batch) + 1) * larger**2 > BATCH_PAIRS):
            yield batch
            batch, larger = [], size
        batch.append(item)
        largest = larger
    if batch:
        yield batch


def _canonical(items: list[Item], wanted: Preparation, check: Check | None, report: Counted) -> Iterator[Data]:
    r"""The molecules in canonical form. If one of them cannot be, the halves are tried by themselves."""
    try:
        batch = canonical(wanted.order)(Batch.from_data_list([item.data for item in items]))
        if check is not None:
            check(batch)
        found = batch.to_data_list()
        if wanted.groups is not None:
            find = FunctionalGroups(wanted.groups)
            found = [find(data) for data in found]
    except ValueError as error:
        if len(items) == 1:
            report.drop(str(error))
            return
        half = len(items) // 2
        yield from _canonical(items[:half], wanted, check, report)
        yield from _canonical(items[half:], wanted, check, report)
        return
    for data, item in zip(found, items, strict=True):
        data.identifier = item.identifier
        data.update(item.properties)
        yield data
