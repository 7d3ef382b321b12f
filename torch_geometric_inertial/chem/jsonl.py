r"""JSON lines: a molecule per line, for pipes and for streams of any length. Needs no RDKit."""
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import (
    ATOM_FIELDS,
    atom_field,
    bonds_of,
    both_directions,
    check_molecule,
    has_orders,
)
from torch_geometric_inertial.chem.properties import Properties, Value, properties_of, title_of
from torch_geometric_inertial.chem.records import (
    BadLine,
    Format,
    Raw,
    checked_positions,
    parse_element,
    read_list,
    write_records,
)
from torch_geometric_inertial.elements import SYMBOLS


def write_jsonl(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules as ``{"z": [8, 1, 1], "pos": [[0.0, 0.0, 0.0], …]}``, one per line, in Å, with their bonds
    ``"bonds": [[0, 1, 1], …]`` (atom, atom, order), charges, radicals, isotopes, title, ``finished`` and properties;
    see :func:`write_sdf`."""
    return write_records(molecules, path, _jsonl_record, on_error)


def read_jsonl(path: str | Path, on_error: str = 'raise', fields: Sequence[str] = ()) -> list[Data]:
    r"""Reads the molecules of a file of :func:`write_jsonl`; further numbers, truth values and texts are properties;
    see :func:`read_sdf`."""
    return read_list(path, JSONL, on_error, fields)


def _jsonl_record(data: Data, i: int) -> str:
    z, pos = check_molecule(data, f'molecule {i}')
    record: dict[str, Any] = dict(z=z.tolist(), pos=[[round(x, 6) for x in xyz] for xyz in pos.tolist()])
    if has_orders(data):
        pairs, orders = bonds_of(data, f'molecule {i}')
        record['bonds'] = [[u, v, order] for (u, v), order in zip(pairs, orders, strict=True)]
    for name in ATOM_FIELDS:
        values = atom_field(data, name)
        if values is not None:
            record[name] = values
    if title_of(data):
        record['title'] = title_of(data)
    if isinstance(data.get('finished'), bool):
        record['finished'] = data.finished
    properties = properties_of(data, f'molecule {i}')
    for name, value in properties.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"molecule {i}: property '{name}' must be finite (got {value})")
    return json.dumps(record | (dict(properties=properties) if properties else {})) + '\n'


def _split_jsonl(lines: Iterator[str]) -> Iterator[Raw]:
    for n, line in enumerate(lines, start=1):
        if not line.isspace():
            yield Raw(n, [line])


def _parse_jsonl(raw: list[str], first: int) -> Data:
    text = raw[0].strip()
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadLine(first, f'expected a JSON object ({error})') from None
    z, pos = (fields.pop(name, None) for name in ('z', 'pos')) if isinstance(fields, dict) else (None, None)
    if not isinstance(z, list) or not isinstance(pos, list) or len(z) != len(pos) or not all(
            isinstance(xyz, list) and len(xyz) == 3 for xyz in pos):
        raise BadLine(first, f"expected 'z' [N] and 'pos' [N, 3] (got {text[:60]!r})")
    if not set(map(type, chain.from_iterable(pos))) <= {int, float}:
        raise BadLine(first, "'pos' must hold numbers")
    atoms = [(a, 0) if type(a) is int and 0 < a < len(SYMBOLS) else parse_element(str(a), first) for a in z]
    try:
        places = checked_positions(pos, first)
    except OverflowError:
        raise BadLine(first, "'pos' must hold finite numbers") from None
    except BadLine as error:
        raise BadLine(first, str(error).split(': ', 1)[1]) from None
    data = Data(z=torch.tensor([a for a, _ in atoms]), pos=places)
    if 'bonds' in fields:
        _add_bonds(data, fields.pop('bonds'), first)
    data.isotope = torch.tensor([mass for _, mass in atoms])
    for name in ATOM_FIELDS:
        if name in fields:
            data[name] = _whole_numbers(name, fields.pop(name), len(z), first)
    if 'formal_charge' in data:
        data.charge = data.formal_charge.sum(0, keepdim=True)
    data.title = str(fields.pop('title', ''))
    if isinstance(fields.get('finished'), bool):
        data.finished = fields.pop('finished')
    properties = fields.pop('properties', {})
    if not isinstance(properties, dict):
        raise BadLine(first, f"'properties' must be an object (got {type(properties).__name__})")
    known = fields | properties
    for name, value in known.items():
        if not isinstance(value, Value | None):
            raise BadLine(first, f"'{name[:40]}' must be a number, a truth value or a text "
                          f'(got {type(value).__name__})')
    data.properties = Properties({name: value for name, value in known.items() if value is not None})
    return data


def _add_bonds(data: Data, bonds: Any, first: int) -> None:
    size = data.z.numel()
    rule = "'bonds' must be triples of two different atoms and an order 1, 2 or 3"
    seen = set()
    for bond in bonds if isinstance(bonds, list) else [bonds]:
        if not isinstance(bond, list) or len(bond) != 3 or not all(type(x) is int for x in bond) or not (
                0 <= bond[0] < size and 0 <= bond[1] < size and bond[0] != bond[1] and bond[2] in (1, 2, 3)):
            raise BadLine(first, f'{rule} (got {str(bond)[:60]})')
        if (pair := (min(bond[:2]), max(bond[:2]))) in seen:
            raise BadLine(first, f'{rule}, each pair once (got {list(pair)} twice)')
        seen.add(pair)
    edges = both_directions(bonds)
    data.edge_index, data.edge_attr = edges[:2], edges[2]


def _whole_numbers(name: str, values: Any, size: int, first: int) -> torch.Tensor:
    low, high = ATOM_FIELDS[name]
    if not isinstance(values, list) or len(values) != size or not all(
            type(x) is int and low <= x <= high for x in values):
        raise BadLine(first, f"'{name}' must be {size} whole numbers from {low} to {high}, one per atom "
                      f'(got {str(values)[:60]})')
    return torch.tensor(values)


JSONL = Format(_split_jsonl, _parse_jsonl)
