r"""XYZ files of one or more frames: plain ones by hand, because to ASE's reader one broken frame breaks all that
follow; extended ones (``Properties=``, ``Lattice=``) through ASE."""
from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.ase import from_ase
from torch_geometric_inertial.chem.fields import ATOM_FIELDS, atom_field, check_molecule
from torch_geometric_inertial.chem.properties import Properties, Value, properties_of
from torch_geometric_inertial.chem.records import (
    HEAVY_HYDROGEN,
    BadLine,
    Format,
    Raw,
    checked_positions,
    format_xyz,
    parse_element,
    parse_float,
    parse_int,
    read_list,
    title,
    write_records,
)
from torch_geometric_inertial.elements import ATOMIC_NUMBERS, SYMBOLS

QM9_FOOTER = 3  #: Lines behind the atoms in the raw files of QM9 ('gdb N …'): frequencies, SMILES, InChI.
_COUNT = re.compile(r'\s*\d+\s*', re.ASCII)
_HEADER = re.compile(r'(^|\s)(Properties|Lattice|pbc)\s*=', re.IGNORECASE)
_NUMBERS = ATOMIC_NUMBERS | {form(symbol): z for symbol, z in ATOMIC_NUMBERS.items() for form in (str.upper, str.lower)}
_SYMBOL = {mass: symbol for symbol, mass in HEAVY_HYDROGEN.items()}


def write_xyz(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules to an XYZ file of one frame each; see :func:`write_sdf`.

    A molecule with charges, radicals, isotopes other than D and T, properties, :obj:`finished` or a cell becomes an
    extended frame, as ASE and RDKit read them. XYZ files hold no bonds.
    """
    return write_records(molecules, path, _xyz_record, on_error)


def read_xyz(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""Reads the molecules of an XYZ file of one or more frames: ``z`` [N], ``pos`` [N, 3] (float32, Å), ``isotope``
    [N], ``title``, ``properties``; of extended ones all that :func:`from_ase` finds, cell, energy and forces among it.

    Elements are symbols or atomic numbers; numbers may be written ``1.0D-1`` or ``1.0*^-1``; further columns of a plain
    frame are ignored. A frame that is too short or too long is one bad record, and the next count line begins the next.
    See :func:`read_sdf`.
    """
    return read_list(path, XYZ, on_error, fields)


def _xyz_record(data: Data, i: int) -> str:
    z, pos = check_molecule(data, f'molecule {i}')
    columns = {name: column for name in ATOM_FIELDS if (column := atom_field(data, name)) and any(column)}
    values = properties_of(data, f'molecule {i}')
    if isinstance(data.get('finished'), bool):
        values['finished'] = data.finished
    isotope = columns.get('isotope', [0] * len(z))
    cell, pbc, energy, force = (data.get(name) for name in ('cell', 'pbc', 'energy', 'force'))
    header = _HEADER.search(title(data, i))  # a title that looks like one is quoted
    plain = not header and not values and cell is None and energy is None and force is None \
        and set(columns) <= {'isotope'} and all(
        number == 1 and mass in _SYMBOL for number, mass in zip(z.tolist(), isotope, strict=True) if mass)
    if plain:
        symbols = [_SYMBOL.get(mass, SYMBOLS[number]) for number, mass in zip(z.tolist(), isotope, strict=True)]
        atoms = [f'{symbol:2} {format_xyz(xyz)}' for symbol, xyz in zip(symbols, pos.tolist(), strict=True)]
        return '\n'.join([str(len(atoms)), title(data, i), *atoms, ''])
    words = [f'Properties=species:S:1:pos:R:3{"" if force is None else ":forces:R:3"}'
             + ''.join(f':{name}:I:1' for name in columns), f'title={_quoted(title(data, i))}']
    if cell is not None:
        words.insert(0, f'Lattice="{" ".join(repr(float(x)) for x in cell.flatten().tolist())}"')
        words.append('pbc="' + ' '.join('FT'[bool(x)] for x in (pbc.flatten() if pbc is not None else [1] * 3)) + '"')
    else:
        words.append('pbc="F F F"')
    if energy is not None:
        words.append(f'energy={float(energy)!r}')
    words += [f'{_quoted(name)}={_text(value)}' for name, value in values.items()]
    rows = [[f'{SYMBOLS[number]:2}', format_xyz(xyz)] for number, xyz in zip(z.tolist(), pos.tolist(), strict=True)]
    for column in (*(() if force is None else (map(format_xyz, force.tolist()), )),
                   *(map(str, column) for column in columns.values())):
        rows = [[*row, word] for row, word in zip(rows, column, strict=True)]
    return '\n'.join([str(len(rows)), ' '.join(words), *map(' '.join, rows), ''])


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return 'FT'[value]
    return _quoted(value) if isinstance(value, str) else repr(value)


def _quoted(text: str) -> str:
    text = ' '.join(text.split())
    if re.fullmatch(r'\w+', text, re.ASCII) and not re.fullmatch(r'[TFtf]|[Tt]rue|[Ff]alse|TRUE|FALSE|[0-9].*', text):
        return text
    return '"' + text.replace('\\', '\\\\').replace('"', '\\"') + '"'


def _split_xyz(lines: Iterator[str]) -> Iterator[Raw]:
    r"""A count line begins a frame. What is not as long as it says reaches to the next count line: a line of one whole
    number, which is no atom."""
    n, line = 0, next(lines, None)
    while line is not None:
        n += 1
        if line.isspace():
            line = next(lines, None)
            continue
        first, raw, fault = n, [line], None
        count = int(line) if _COUNT.fullmatch(line) and len(line.strip()) < 10 else None
        if count is None:
            fault = f'expected a whole number (got {line.strip()[:40]!r})'
        if count is not None and (line := next(lines, None)) is not None:
            raw.append(line)
            n += 1
        line = None
        for line in lines:
            if (count is not None and len(raw) == count + 2) or (len(line) < 12 and _COUNT.fullmatch(line)):
                break
            raw.append(line)
            n += 1
            line = None
        if count is not None and len(raw) < count + 2:
            ends = 'the file ends' if line is None else 'the next frame begins'
            fault = f'{ends} before the {count} atoms of line {first}'
        spare = QM9_FOOTER if raw[1:] and raw[1].startswith('gdb ') else 0
        while line is not None and not _COUNT.fullmatch(line):
            if not line.isspace() and spare > 0:
                spare -= 1
            elif not line.isspace() and fault is None:
                fault = f'expected {count} atoms (got more: {line.strip()[:40]!r})'
            n += 1
            line = next(lines, None)
        yield Raw(first, raw, fault)


def _parse_xyz(raw: list[str], first: int) -> Data:
    count = parse_int(raw[0], first)
    if count < 1:
        raise BadLine(first, 'the molecule has no atoms')
    if _HEADER.search(raw[1]):
        return _parse_extended(raw, first)
    rows = [line.split() for line in raw[2:]]
    try:
        z, isotope = [_NUMBERS[row[0]] for row in rows], [0] * count
        xyz = [(float(row[1]), float(row[2]), float(row[3])) for row in rows]
        plain = all('_' not in line and line.isascii() for line in raw[2:])
    except (KeyError, ValueError, IndexError):
        plain = False
    if not plain:
        z, isotope, xyz = _parse_rows(rows, first + 2)
    return Data(z=torch.from_numpy(np.array(z)), pos=checked_positions(xyz, first + 2),
                isotope=torch.from_numpy(np.array(isotope)),
                title=' '.join(raw[1].split()), properties=Properties())


def _parse_rows(rows: list[list[str]], first: int) -> tuple[list[int], list[int], list[tuple[float, float, float]]]:
    z, isotope, xyz = [], [], []
    for n, row in enumerate(rows, start=first):
        if len(row) < 4:
            raise BadLine(n, f'expected an element and three coordinates (got {" ".join(row)[:60]!r})')
        number, mass = parse_element(row[0], n)
        z.append(number)
        isotope.append(mass)
        x, y, w = (parse_float(word, n) for word in row[1:4])
        xyz.append((x, y, w))
    return z, isotope, xyz


def _parse_extended(raw: list[str], first: int) -> Data:
    try:
        from ase.io.extxyz import read_xyz as read_frames
    except ImportError:
        raise BadLine(first + 1, 'an extended frame (Properties=, Lattice=) needs ASE: '
                      "pip install ase") from None

    try:
        atoms, = read_frames(io.StringIO(''.join(raw)), slice(0, 1))
        data = from_ase(atoms)
    except Exception as error:  # ASE raises whatever its parts raise
        raise BadLine(first + 1, f'ASE cannot read the extended frame ({" ".join(str(error).split())[:200]})') from None
    if data.z.numel() != len(raw) - 2:
        raise BadLine(first, f'expected {len(raw) - 2} atoms (got {data.z.numel()})')
    if 'isotope' not in data:
        data.isotope = torch.zeros_like(data.z)
    return data


XYZ = Format(_split_xyz, _parse_xyz, title_line=1)
