r"""JSON lines: a molecule a line, for pipes and for streams of any length. Needs no RDKit."""
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import check_molecule
from torch_geometric_inertial.chem.records import (
    BadLine,
    Line,
    molecule,
    parse_element,
    parse_float,
    read_records,
    write_records,
)

KEPT = (bool, int, float, str)  #: Types of the further fields that a line keeps.


def write_jsonl(molecules: Iterable[Data | None], path: str | Path, on_error: str = 'raise') -> int:
    r"""Writes molecules as ``{"z": [8, 1, 1], "pos": [[0.0, 0.0, 0.0], …]}``, one a line, in Å, with those of their
    other fields that are a number or a text; see :func:`write_sdf`."""
    return write_records(molecules, path, _jsonl_record, on_error)


def read_jsonl(path: str | Path, on_error: str = 'raise') -> list[Data]:
    r"""Reads the molecules of a file of :func:`write_jsonl`; see :func:`read_sdf`."""
    return read_records(path, _jsonl_records, _parse_jsonl, on_error)


def _jsonl_record(data: Data, i: int) -> str:
    z, pos = check_molecule(data, f'molecule {i}')
    record = dict(z=z.tolist(), pos=[[round(x, 6) for x in xyz] for xyz in pos.tolist()])
    others = {name: value for name, value in data.to_dict().items() if isinstance(value, KEPT)}
    return json.dumps(record | others) + '\n'


def _jsonl_records(lines: list[Line]) -> Iterator[list[Line]]:
    for line in lines:
        if line[1]:
            yield [line]


def _parse_jsonl(record: list[Line]) -> Data:
    number, text = record[0]
    try:
        fields = json.loads(text)
    except ValueError as error:
        raise BadLine(number, f'expected a JSON object ({error})') from None
    z, pos = (fields.pop(name, None) for name in ('z', 'pos')) if isinstance(fields, dict) else (None, None)
    if not isinstance(z, list) or not isinstance(pos, list) or len(z) != len(pos) or not all(
            isinstance(xyz, list) and len(xyz) == 3 for xyz in pos):
        raise BadLine(number, f"expected 'z' [N] and 'pos' [N, 3] (got {text[:60]!r})")
    atoms = [(parse_element(str(a), number), [parse_float(str(x), number) for x in xyz])
             for a, xyz in zip(z, pos, strict=True)]
    data = molecule(atoms, number)
    for name, value in fields.items():
        if isinstance(value, KEPT):
            data[name] = value
    return data
