r"""Text files of many molecules: writing them whole, reading them with the place of every fault."""
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.properties import title_of
from torch_geometric_inertial.elements import ATOMIC_NUMBERS, SYMBOLS
from torch_geometric_inertial.files import write_atomically

Line = tuple[int, str]


class BadLine(ValueError):
    r"""What is wrong in which line of the file being read."""
    def __init__(self, number: int, what: str):
        super().__init__(f'line {number}: {what}')


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
        with open(temporary, 'w', encoding='utf-8', newline='\n') as file:
            for i, data in enumerate(molecules):
                try:
                    if data is None:
                        raise ValueError(f'molecule {i} is missing (got None)')
                    text = record(data, i)
                except ValueError as error:
                    if on_error == 'raise':
                        raise
                    skipped.append(str(error))
                    continue
                file.write(text)
                count += 1

    write_atomically(path, write)
    _warn(skipped, path)
    return count


def read_records(
    path: str | Path,
    split: Callable[[list[Line]], Iterator[list[Line]]],
    parse: Callable[[list[Line]], Data],
    on_error: str,
) -> list[Data]:
    r"""Splits a file into records and parses each; see :func:`read_sdf`."""
    _check_on_error(on_error)
    text = Path(path).read_text(encoding='utf-8', errors='replace')
    lines = [(number, line.rstrip()) for number, line in enumerate(text.split('\n'), start=1)]
    while lines and not lines[-1][1]:
        lines.pop()
    if not lines:
        raise ValueError(f'{path}: the file is empty')
    molecules: list[Data] = []
    skipped: list[str] = []
    for i, record in enumerate(split(lines)):
        try:
            molecules.append(parse(record))
        except BadLine as error:
            message = f'{path}: record {i}, {error}'
            if on_error == 'raise':
                raise ValueError(message) from None
            skipped.append(message)
    _warn(skipped, path)
    return molecules


def title(data: Data, i: int) -> str:
    return title_of(data)[:80] or f'molecule {i}'


def format_xyz(xyz: list[float]) -> str:
    return ' '.join(f'{x + 0.0:.6f}' for x in xyz)


def molecule(atoms: list[tuple[int, list[float]]], number: int) -> Data:
    if not atoms:
        raise BadLine(number, 'the molecule has no atoms')
    pos = torch.tensor([xyz for _, xyz in atoms], dtype=torch.float32)
    return Data(z=torch.tensor([z for z, _ in atoms]), pos=pos)


def parse_element(symbol: str, number: int) -> int:
    z = int(symbol) if symbol.isdecimal() else ATOMIC_NUMBERS.get({'D': 'H', 'T': 'H'}.get(symbol, symbol.capitalize()))
    if z is None or not 0 < z < len(SYMBOLS):
        raise BadLine(number, f'no such element, {symbol!r}')
    return z


def parse_float(text: str, number: int) -> float:
    try:
        value = float(text.replace('*^', 'e').replace('D', 'e').replace('d', 'e'))
    except ValueError:
        raise BadLine(number, f'expected a coordinate (got {text!r})') from None
    if not math.isfinite(value):
        raise BadLine(number, f'a coordinate must be finite (got {text.strip()!r})')
    return value


def parse_int(text: str, number: int) -> int:
    try:
        return int(text)
    except ValueError:
        raise BadLine(number, f'expected a whole number (got {text!r})') from None


def _check_on_error(on_error: str) -> None:
    if on_error not in ('raise', 'skip'):
        raise ValueError(f"'on_error' must be 'raise' or 'skip' (got {on_error!r})")


def _warn(skipped: list[str], path: str | Path) -> None:
    if skipped:
        shown = '; '.join(skipped[:5]) + ('; …' if len(skipped) > 5 else '')
        warnings.warn(f'{path}: left out {len(skipped)} molecule(s): {shown}', stacklevel=4)
