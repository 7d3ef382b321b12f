r"""SDF and mol files: V2000, which all programs read, and V3000 beyond its limits. RDKit reads them where it can."""
from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_inertial.chem.mol import data_of_mol
from torch_geometric_inertial.chem.molfile import check_marks, parse_molfile
from torch_geometric_inertial.chem.properties import Properties, Value
from torch_geometric_inertial.chem.records import BadLine, Format, Raw, read_list, write_records
from torch_geometric_inertial.chem.sdf_block import sdf_block

_ITEM = re.compile(r'>.*<([^<>]+)>')
_INT = re.compile(r'[+-]?(0|[1-9]\d{0,17})', re.ASCII)
_FLOAT = re.compile(r'[+-]?((0|[1-9]\d{0,30})?\.\d{1,30}|(0|[1-9]\d{0,17})\.?)([eE][+-]\d{1,3})?', re.ASCII)
_WORDS = {'True': True, 'False': False, 'nan': float('nan'), 'inf': float('inf'), '-inf': -float('inf')}


def write_sdf(
    molecules: Iterable[Data | None],
    path: str | Path,
    perception: str | None = None,
    on_error: str = 'raise',
) -> int:
    r"""Writes molecules to an SDF file: V2000 records, with coordinates to 1e-4 Å, and V3000 records, to 1e-6 Å, for
    molecules of more than 999 atoms or bonds and for coordinates of more than four digits before the point.

    The file appears whole or not at all, compressed if its name ends in ``.gz``. ``data.title`` (or ``data.name``),
    where it is a string, becomes the title, else the molecule's number. Charges, radicals, isotopes, ``finished`` and
    properties are written. A molecule without ``num_radical_electrons`` has all its atoms: its open valences are
    written as such, so that no program fills them with hydrogens.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); see :func:`to_mol` for their other fields.
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
    r"""Reads the molecules of an SDF (or mol) file, V2000 or V3000, compressed if its name ends in ``.gz``.

    Each has ``z`` [N], ``pos`` [N, 3] (float32, Å), ``edge_index`` [2, E] (both directions), ``edge_attr`` [E] (Kekulé
    orders 1, 2, 3), ``formal_charge``, ``num_radical_electrons`` and ``isotope`` [N], ``title`` and ``properties``, the
    data items, and ``charge`` [1], the total; ``finished`` where the file has it.

    Args:
        path: The file.
        on_error: ``'raise'``, or ``'skip'``: leave out bad records with a warning that names them. To keep the file's
            numbering, use :func:`read_records`.
        fields: Names of properties (``> <gap>``) to have as tensors [1], too; NaN where a molecule has none.

    Raises:
        ValueError: On a bad record, naming the file, the record, its title and the line; if a field has the name of
            what every molecule has, or is no number.
    """
    return read_list(path, SDF, on_error, fields)


def _split_sdf(lines: Iterator[str]) -> Iterator[Raw]:
    raw: list[str] = []
    first = 1
    for n, line in enumerate(lines, start=1):
        if line.startswith('$$$$'):
            yield Raw(first, raw)
            raw, first = [], n + 1
        else:
            raw.append(line)
    if any(not line.isspace() for line in raw):
        yield Raw(first, raw)


def _parse_sdf(raw: list[str], first: int) -> Data:
    end = raw.index('M  END\n') if 'M  END\n' in raw else next(
        (i for i, line in enumerate(raw) if line.startswith('M  END')), -1)
    if end < 4:
        parse_molfile(raw[:end + 1] if end >= 0 else raw, first)  # says what is missing
        raise BadLine(first + len(raw) - 1, "the record ends before 'M  END'")
    data = _by_rdkit(raw[:end + 1], first) if _rdkit() else parse_molfile(raw[:end + 1], first)
    _check_not_flat(data, raw[1], first)
    data.title = ' '.join(raw[0].split())
    values = _data_items(raw[end + 1:])
    if isinstance(values.get('finished'), bool):
        data.finished = values.pop('finished')
    data.properties = Properties(values)
    return data


def _by_rdkit(block: list[str], first: int) -> Data:
    Chem, rdBase = _rdkit()
    with rdBase.BlockLogs():
        mol = Chem.MolFromMolBlock(''.join(block), sanitize=False, removeHs=False)
        if mol is None or mol.GetNumConformers() == 0:
            parse_molfile(block, first)  # knows the line
            raise BadLine(first, 'RDKit cannot read the record')
        check_marks(block, first)
        try:
            Chem.AssignRadicals(mol)  # of atoms whose valence the file gives
            return data_of_mol(mol, mol.GetConformer().GetPositions())
        except (ValueError, RuntimeError) as error:
            raise BadLine(first + 3, ' '.join(str(error).replace("'mol'", 'the molecule').split())[:200]) from None


@cache
def _rdkit() -> Any:
    try:
        from rdkit import Chem, rdBase
    except ImportError:
        return None
    return Chem, rdBase


def _check_not_flat(data: Data, header: str, first: int) -> None:
    """A drawing says that it is one, or cannot be anything else: four bonds never lie in a plane."""
    if header[20:22] == '3D' or bool(data.pos[:, 2].any()) or data.z.numel() < 2:
        return
    if header[20:22] == '2D' or (data.edge_index.numel() and int(data.edge_index[0].bincount().max()) > 3):
        raise BadLine(first + 1, 'the molecule is a drawing without a third dimension, not a geometry')


def _data_items(lines: list[str]) -> dict[str, Value]:
    items: dict[str, Value] = {}
    name: str | None = None
    value: list[str] = []
    for line in (*lines, '\n'):
        if name is None:
            found = _ITEM.match(line) if line.startswith('>') else None
            name, value = (found.group(1).strip(), []) if found else (None, [])
        elif line.isspace():
            items[name] = _value('\n'.join(value))
            name = None
        else:
            value.append(line.rstrip('\n'))
    return items


def _value(text: str) -> Value:
    """Numbers and truth values as such; what is not in their usual form, such as '007', stays a text."""
    stripped = text.strip()
    if _INT.fullmatch(stripped):
        return int(stripped)
    if _FLOAT.fullmatch(stripped):
        return float(stripped)
    return _WORDS.get(stripped, text)


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


SDF = Format(_split_sdf, _parse_sdf, title_line=0)
