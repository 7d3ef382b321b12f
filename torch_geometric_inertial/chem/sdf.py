r"""SDF files, written as V3000 (V2000 keeps four decimals), read as V2000 or V3000. Needs no RDKit."""
import math
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import charges_of, check_molecule, find_bonds
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

Atom = tuple[int, list[float]]
Bond = tuple[int, int, int]
Parsed = tuple[list[Atom], list[Bond], dict[int, int]]

OWN = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge', 'title')  #: What every molecule of a file has.
_V2000_CHARGES = {1: 3, 2: 2, 3: 1, 5: -1, 6: -2, 7: -3}


def write_sdf(
    molecules: Iterable[Data | None],
    path: str | Path,
    perception: str | None = None,
    on_error: str = 'raise',
) -> int:
    r"""Writes molecules to an SDF file of V3000 records, with coordinates to 1e-6 Å.

    The file appears whole or not at all. ``data.name``, where it is a string, becomes the title, else the molecule's
    number.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å).
        path: The file.
        perception: ``'data'``: bonds from ``edge_index`` and ``edge_attr``; ``'edm'``: from the EDM distance tables;
            by default from the data where it has bonds and their orders.
        on_error: ``'raise'``, or ``'skip'``: leave out malformed molecules with a warning that names them.

    Returns:
        How many molecules were written.

    Raises:
        ValueError: On a molecule that is missing, malformed or not finite; it is named by its number.
    """
    if perception not in (None, 'data', 'edm'):
        raise ValueError(f"'perception' must be None, 'data' or 'edm' (got {perception!r})")
    return write_records(molecules, path, lambda data, i: sdf_block(data, i, perception), on_error)


def read_sdf(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""Reads the molecules of an SDF (or mol) file, V2000 or V3000.

    Each has ``z`` [N], ``pos`` [N, 3] (float32, Å), ``edge_index`` [2, E] (both directions), ``edge_attr`` [E] (bond
    orders; 4: aromatic), ``formal_charge`` [N] and ``title``.

    Args:
        path: The file.
        on_error: ``'raise'``, or ``'skip'``: leave out bad records with a warning that names them.
        fields: Names of data items (``> <gap>``) to read as numbers, each [1]; NaN where a molecule has none.

    Raises:
        ValueError: On a bad record, naming the file, the record and the line; if a field has the name of what every
            molecule has.
    """
    for name in set(fields) & set(OWN):
        raise ValueError(f"'fields' must not be one of {', '.join(OWN)} (got '{name}')")
    return read_records(path, _sdf_records, partial(_parse_sdf, fields=tuple(fields)), on_error)


def sdf_block(data: Data, i: int, perception: str | None = None) -> str:
    r"""One record of :func:`write_sdf`, that of molecule number :obj:`i`."""
    z, pos = check_molecule(data, f'molecule {i}')
    bonds, orders = find_bonds(data, perception, f'molecule {i}')
    charges = charges_of(data) or [0] * len(z)
    lines = [
        title(data, i), '  inertial' + ' ' * 10 + '3D', '', '  0  0  0     0  0            999 V3000',
        'M  V30 BEGIN CTAB', f'M  V30 COUNTS {len(z)} {len(bonds)} 0 0 0', 'M  V30 BEGIN ATOM',
    ]
    for a, (number, xyz, charge) in enumerate(zip(z.tolist(), pos.tolist(), charges, strict=True), start=1):
        lines.append(f'M  V30 {a} {SYMBOLS[number]} {format_xyz(xyz)} 0' + (f' CHG={charge}' if charge else ''))
    lines.append('M  V30 END ATOM')
    if bonds:
        lines.append('M  V30 BEGIN BOND')
    for b, ((u, v), order) in enumerate(zip(bonds, orders, strict=True), start=1):
        lines.append(f'M  V30 {b} {order} {u + 1} {v + 1}')
    if bonds:
        lines.append('M  V30 END BOND')
    return '\n'.join([*lines, 'M  V30 END CTAB', 'M  END', '$$$$', ''])


def _sdf_records(lines: list[Line]) -> Iterator[list[Line]]:
    record: list[Line] = []
    for line in lines:
        if line[1].startswith('$$$$'):
            yield record or [line]
            record = []
        else:
            record.append(line)
    if any(text for _, text in record):
        yield record


def _parse_sdf(record: list[Line], fields: tuple[str, ...] = ()) -> Data:
    if len(record) < 4:
        raise BadLine(record[-1][0], 'the record ends before its counts line')
    number, counts = record[3]
    if counts.endswith('V3000'):
        atoms, bonds, charges = _parse_v3000(record[4:], record[-1][0])
    elif counts.endswith('V2000') or len(counts) >= 6:
        atoms, bonds, charges = _parse_v2000(record, number, counts)
    else:
        raise BadLine(number, f'expected a counts line of V2000 or V3000 (got {counts!r})')
    data = molecule(atoms, number)
    directed = sorted([(u, v, k) for u, v, k in bonds] + [(v, u, k) for u, v, k in bonds])
    edges = torch.tensor(directed, dtype=torch.long).reshape(-1, 3)
    data.edge_index, data.edge_attr = edges[:, :2].t().contiguous(), edges[:, 2].contiguous()
    data.formal_charge = torch.tensor([charges.get(i, 0) for i in range(len(atoms))], dtype=torch.long)
    data.title = record[0][1].strip()
    for name in fields:
        data[name] = torch.tensor([_data_item(record, name)], dtype=torch.float64)
    return data


def _data_item(record: list[Line], name: str) -> float:
    head = [i for i, (_, text) in enumerate(record) if text.startswith('>') and f'<{name}>' in text]
    if not head or head[0] + 1 == len(record) or not record[head[0] + 1][1].strip():
        return math.nan
    number, text = record[head[0] + 1]
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise BadLine(number, f'<{name}> must be a finite number (got {text!r})')
    return value


def _parse_v2000(record: list[Line], number: int, counts: str) -> Parsed:
    num_atoms, num_bonds = parse_int(counts[:3], number), parse_int(counts[3:6], number)
    body = record[4:4 + num_atoms + num_bonds]
    if len(body) < num_atoms + num_bonds:
        raise BadLine(record[-1][0], f'the record ends before its {num_atoms} atoms and {num_bonds} bonds')
    atoms: list[Atom] = []
    bonds: list[Bond] = []
    charges: dict[int, int] = {}
    for i, (n, line) in enumerate(body[:num_atoms]):
        if len(line) < 32:
            raise BadLine(n, f'expected an atom (got {line!r})')
        atoms.append((parse_element(line[31:34].strip(), n), [parse_float(line[k:k + 10], n) for k in (0, 10, 20)]))
        code = line[36:39].strip()
        if code and parse_int(code, n) in _V2000_CHARGES:
            charges[i] = _V2000_CHARGES[int(code)]
    for n, line in body[num_atoms:]:
        bonds.append(_bond([line[:3], line[3:6]], line[6:9], num_atoms, n))
    properties = [(n, line.split()) for n, line in record[4 + num_atoms + num_bonds:] if line.startswith('M  CHG')]
    if properties:  # they replace the charges of the atom block
        charges = {}
        for n, words in properties:
            pairs = words[3:]
            charges |= {parse_int(a, n) - 1: parse_int(q, n) for a, q in zip(pairs[::2], pairs[1::2], strict=False)}
    return atoms, bonds, charges


def _parse_v3000(lines: list[Line], last: int) -> Parsed:
    atoms: list[Atom] = []
    bonds: list[Bond] = []
    charges: dict[int, int] = {}
    place: dict[str, int] = {}
    block = ''
    declared: list[int] | None = None
    for n, line in _joined(lines):
        words = line.split()
        if words[:1] == ['BEGIN']:
            block = ' '.join(words[1:2])
        elif words[:1] == ['END']:
            if words[1:2] == ['CTAB']:
                break
            block = ''
        elif words[:1] == ['COUNTS']:
            declared = [parse_int(word, n) for word in words[1:3]]
        elif block == 'ATOM':
            if len(words) < 6:
                raise BadLine(n, f'expected an atom (got {line!r})')
            place[words[0]] = len(atoms)
            for word in words[6:]:
                if word.startswith('CHG='):
                    charges[len(atoms)] = parse_int(word[4:], n)
            atoms.append((parse_element(words[1], n), [parse_float(word, n) for word in words[2:5]]))
        elif block == 'BOND':
            if len(words) < 4:
                raise BadLine(n, f'expected a bond (got {line!r})')
            for word in words[2:4]:
                if word not in place:
                    raise BadLine(n, f'a bond of an atom that is not there, {word!r}')
            bonds.append(_bond([str(place[word] + 1) for word in words[2:4]], words[1], len(atoms), n))
    else:
        raise BadLine(last, "the record ends before 'M  V30 END CTAB'")
    if declared != [len(atoms), len(bonds)]:
        raise BadLine(last, f'expected the declared {declared} atoms and bonds (got {[len(atoms), len(bonds)]})')
    return atoms, bonds, charges


def _joined(lines: list[Line]) -> Iterator[Line]:
    """The V30 lines without their prefix; a line that ends in '-' goes on in the next."""
    begun = ''
    for n, line in lines:
        if not line.startswith('M  V30 '):
            continue
        begun += line[7:]
        if begun.endswith('-'):
            begun = begun[:-1]
        else:
            yield n, begun
            begun = ''


def _bond(ends: list[str], order: str, num_atoms: int, number: int) -> tuple[int, int, int]:
    u, v, kind = parse_int(ends[0], number) - 1, parse_int(ends[1], number) - 1, parse_int(order, number)
    if not (0 <= u < num_atoms and 0 <= v < num_atoms) or u == v:
        raise BadLine(number, f'a bond between atoms {u + 1} and {v + 1} of {num_atoms}')
    if kind not in (1, 2, 3, 4):
        raise BadLine(number, f'the bond type must be 1, 2, 3 or 4 (got {kind})')
    return u, v, kind


def count_sdf(path: str | Path) -> int:
    r"""How many records an SDF file of any size has, by the lines that end them."""
    count, rest = 0, b'\n'
    with open(path, 'rb') as file:
        while part := file.read(2**24):
            count += (rest + part).count(b'\n$$$$')
            rest = (rest + part)[-4:]
    return count


def sdf_blocks(path: str | Path) -> Iterator[str]:
    r"""The records of an SDF file of any size as text, one after the other.

    Raises:
        ValueError: If the file ends within a record.
    """
    lines: list[str] = []
    with open(path, encoding='utf-8', errors='replace') as file:
        for line in file:
            if line.startswith('$$$$'):
                yield ''.join(lines)
                lines = []
            else:
                lines.append(line)
    if any(line.strip() for line in lines):
        raise ValueError(f"{path}: the file ends within a record (after '{lines[0].strip()}')")
