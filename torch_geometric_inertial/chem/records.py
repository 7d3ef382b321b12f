r"""Files of many molecules: reading them one by one, with the place of every fault, and writing them whole."""
from __future__ import annotations

import gzip
import math
import re
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import FLOAT_MAX
from torch_geometric_inertial.chem.properties import OWN, Value, title_of
from torch_geometric_inertial.elements import ATOMIC_NUMBERS, SYMBOLS
from torch_geometric_inertial.files import write_atomically

HEAVY_HYDROGEN = {'D': 2, 'T': 3}  #: Symbols of their own, and their mass numbers.
_FLOAT = re.compile(r'\s*[+-]?(\d+\.?\d*|\.\d+)([eEdD][+-]?\d+|\*\^[+-]?\d+)?\s*', re.ASCII)
_INT = re.compile(r'\s*[+-]?\d{1,9}\s*', re.ASCII)


class Record(NamedTuple):
    r"""A record of a file: its place, counted from 0, and its molecule, or the reason why it has none, with the name of
    the file, the place and the title."""
    number: int
    molecule: Data | None
    error: str | None
    title: str


class Raw(NamedTuple):
    r"""The text of a record: the number of its first line in the file, counted from 1, and its lines; perhaps what is
    wrong with it as a whole."""
    first: int
    lines: list[str]
    fault: str | None = None


class Format(NamedTuple):
    r"""How a format is read: cut into records, and each parsed; which line is the title."""
    split: Callable[[Iterator[str]], Iterator[Raw]]
    parse: Callable[[list[str], int], Data]
    title_line: int | None = None


class BadLine(ValueError):
    r"""What is wrong in which line of the file being read."""
    def __init__(self, number: int, what: str):
        super().__init__(f'line {number}: {what}')


class _Damaged(ValueError):
    pass


def stream(path: str | Path, kind: Format, fields: Sequence[str] = ()) -> Iterator[Record]:
    r"""The records of a file of any size, one after the other; see :func:`read_records`."""
    for name in set(fields) & set(OWN):
        raise ValueError(f"'fields' must not be one of {', '.join(OWN)} (got '{name}')")
    empty = True
    for record in parsed(_read_lines(path), kind, str(path), fields):
        empty = False
        yield record
    if empty:
        raise ValueError(f'{path}: the file is empty, or holds no molecule')


def parsed(lines: Iterator[str], kind: Format, name: str, fields: Sequence[str] = ()) -> Iterator[Record]:
    r"""The records of lines of text; messages call these :obj:`name`."""
    number = -1
    try:
        for number, raw in enumerate(kind.split(lines)):
            title = ''
            if kind.title_line is not None and len(raw.lines) > kind.title_line:
                title = ' '.join(raw.lines[kind.title_line].split())[:80]
            try:
                if raw.fault is not None:
                    raise BadLine(raw.first, raw.fault)
                data = kind.parse(raw.lines, raw.first)
                for field in fields:
                    data[field] = _number(data, field, raw.first)
            except BadLine as error:
                named = f'record {number}' + (f" ('{title}')" if title else '')
                yield Record(number, None, f'{name}: {named}, {error}', title)
            else:
                yield Record(number, data, None, title_of(data))
    except _Damaged as error:
        number += 1
        yield Record(number, None, f'{name}: record {number}: {error}', '')


def read_list(path: str | Path, kind: Format, on_error: str, fields: Sequence[str] = ()) -> list[Data]:
    r"""The molecules of a file; see :func:`read_sdf`."""
    _check_on_error(on_error)
    molecules: list[Data] = []
    skipped: list[str] = []
    for record in stream(path, kind, fields):
        if record.molecule is not None:
            molecules.append(record.molecule)
        elif on_error == 'raise':
            raise ValueError(record.error)
        else:
            skipped.append(str(record.error))
    warn_left_out(skipped, path)
    return molecules


def write_records(
    molecules: Iterable[Data | None],
    path: str | Path,
    record: Callable[[Data, int], str],
    on_error: str,
) -> int:
    r"""Writes the record of each molecule as it comes, so that a stream of any length can be written, and returns how
    many there are; see :func:`write_sdf`."""
    _check_on_error(on_error)
    skipped: list[str] = []
    count = 0

    def write(temporary: Path) -> None:
        nonlocal count
        with _open_to_write(temporary, zipped=str(path).lower().endswith('.gz')) as file:
            for i, data in enumerate(molecules):
                try:
                    if data is None:
                        raise ValueError(f'molecule {i} is missing (got None)')
                    text = record(data, i)
                except ValueError as error:
                    fault = str(error) if f'molecule {i}' in str(error) else f'molecule {i}: {error}'
                    if on_error == 'raise':
                        raise ValueError(fault) from error
                    skipped.append(fault)
                    continue
                file.write(text)
                count += 1
        if skipped and not count:
            raise ValueError(f'{path}: none of {len(skipped)} molecule(s) can be written; {skipped[0]}')

    write_atomically(path, write)
    warn_left_out(skipped, path)
    return count


def title(data: Data, i: int) -> str:
    return title_of(data)[:80] or f'molecule {i}'


def format_xyz(xyz: list[float]) -> str:
    return ' '.join(f'{x + 0.0:.6f}' for x in xyz)


def checked_positions(xyz: Sequence[Sequence[float]], first: int) -> Tensor:
    r"""Positions [N, 3] in single precision, of atoms one per line.

    Raises:
        BadLine: If there are none, or one is not finite.
    """
    if not xyz:
        raise BadLine(first, 'the molecule has no atoms')
    pos = np.array(xyz, dtype=np.float64)
    if not np.abs(pos).max() <= FLOAT_MAX:
        i = int(np.argmin((np.abs(pos) <= FLOAT_MAX).all(1)))
        raise BadLine(first + i, f'a coordinate must be finite in single precision (got {list(xyz[i])})')
    return torch.from_numpy(pos).float()


def parse_element(symbol: str, number: int) -> tuple[int, int]:
    r"""Atomic number and mass number (0: natural) of a symbol or an atomic number."""
    if symbol.upper() in HEAVY_HYDROGEN:
        return 1, HEAVY_HYDROGEN[symbol.upper()]
    digits = symbol.isascii() and symbol.isdecimal() and len(symbol) < 4
    z = int(symbol) if digits else ATOMIC_NUMBERS.get(symbol.capitalize())
    if z is None or not 0 < z < len(SYMBOLS):
        raise BadLine(number, f'no such element, {symbol[:20]!r}')
    return z, 0


def parse_float(text: str, number: int) -> float:
    if not _FLOAT.fullmatch(text):
        if text.strip().lower().lstrip('+-') in ('nan', 'inf', 'infinity'):
            raise BadLine(number, f'a coordinate must be finite (got {text.strip()!r})')
        raise BadLine(number, f'expected a coordinate (got {text[:40]!r})')
    value = float(text.replace('*^', 'e').replace('D', 'e').replace('d', 'e'))
    if not math.isfinite(value):
        raise BadLine(number, f'a coordinate must be finite (got {text.strip()[:40]!r})')
    return value


def parse_int(text: str, number: int) -> int:
    if not _INT.fullmatch(text):
        raise BadLine(number, f'expected a whole number (got {text[:40]!r})')
    return int(text)


def warn_left_out(skipped: list[str], path: str | Path) -> None:
    r"""A warning that names what was left out, up to five of them."""
    if skipped:
        shown = '; '.join(skipped[:5]) + ('; …' if len(skipped) > 5 else '')
        warnings.warn(f'{path}: left out {len(skipped)} molecule(s): {shown}', stacklevel=4)


def _number(data: Data, name: str, first: int) -> Tensor:
    value: Value = data.get('properties', {}).get(name, math.nan)
    if isinstance(value, str) and not value.strip():
        value = math.nan
    elif isinstance(value, (bool, str)) or (not math.isfinite(value) and name in data.properties):
        raise BadLine(first, f'<{name}> must be a finite number (got {value!r})')
    return torch.tensor([value], dtype=torch.float64)


def _read_lines(path: str | Path) -> Iterator[str]:
    zipped = str(path).lower().endswith('.gz')
    with (gzip.open if zipped else open)(path, 'rt', encoding='utf-8', errors='replace') as file:
        try:
            yield from file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise _Damaged(f'the compressed file is damaged or cut off ({error})') from None


def _open_to_write(path: Path, zipped: bool) -> Any:
    if zipped:
        return gzip.open(path, 'wt', encoding='utf-8', newline='\n')
    return open(path, 'w', encoding='utf-8', newline='\n')


def _check_on_error(on_error: str) -> None:
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"'on_error' must be 'raise' or 'skip' (got {on_error!r})")
