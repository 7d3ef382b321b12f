r"""XYZ files of one or more frames. Needs no RDKit."""
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import check_molecule
from torch_geometric_inertial.chem.records import (
    BadLine,
    Line,
    format_xyz,
    molecule,
    parse_element,
    parse_float,
    parse_int,
    read_records,
    title,
    write_records,
)
from torch_geometric_inertial.elements import SYMBOLS


def write_xyz(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules to an XYZ file of one frame each; see :func:`write_sdf`."""
    return write_records(molecules, path, _xyz_record, on_error)


def read_xyz(path: str | Path, on_error: str = 'raise') -> list[Data]:
    r"""Reads the molecules of an XYZ file of one or more frames: ``z`` [N], ``pos`` [N, 3] (float32, Å), ``title``.

    Elements are symbols or atomic numbers; numbers may be written ``1.0D-1`` or ``1.0*^-1``; further columns are
    ignored. See :func:`read_sdf`.
    """
    return read_records(path, _xyz_records, _parse_xyz, on_error)


def _xyz_record(data: Data, i: int) -> str:
    z, pos = check_molecule(data, f'molecule {i}')
    atoms = [f'{SYMBOLS[number]:2} {format_xyz(xyz)}' for number, xyz in zip(z.tolist(), pos.tolist(), strict=True)]
    return '\n'.join([str(len(atoms)), title(data, i), *atoms, ''])


def _xyz_records(lines: list[Line]) -> Iterator[list[Line]]:
    """A frame's length is its first line. Where that is no number nothing after it can be told apart."""
    start = 0
    while start < len(lines):
        if not lines[start][1]:
            start += 1
            continue
        count = lines[start][1].strip()
        stop = start + 2 + int(count) if count.isdecimal() else len(lines)
        yield lines[start:stop]
        start = stop


def _parse_xyz(record: list[Line]) -> Data:
    number, count = record[0]
    num_atoms = parse_int(count, number)
    if num_atoms < 1:
        raise BadLine(number, 'the molecule has no atoms')
    if len(record) < num_atoms + 2:
        raise BadLine(record[-1][0], f'the file ends before the {num_atoms} atoms of line {number}')
    atoms = []
    for n, line in record[2:]:
        words = line.split()
        if len(words) < 4:
            raise BadLine(n, f'expected an element and three coordinates (got {line!r})')
        atoms.append((parse_element(words[0], n), [parse_float(word, n) for word in words[1:4]]))
    data = molecule(atoms, number)
    data.title = record[1][1].strip()
    return data
