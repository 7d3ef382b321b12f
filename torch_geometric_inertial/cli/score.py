from __future__ import annotations

import json as to_json
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_inertial.chem import with_bonds
from torch_geometric_inertial.cli.arguments import load_model
from torch_geometric_inertial.cli.files import name_of, read_records, refuse, warnings_name
from torch_geometric_inertial.files import write_atomically

READ = ('z', 'pos', 'edge_index', 'edge_attr', 'formal_charge')


def score(file: Path, weights: str = 'qm9', json: Path | None = None, num_steps: int = 16, strict: bool = False,
          device: str = 'cpu') -> None:
    r"""Prints the log-likelihood of each molecule (nats, Å) in the model's frame and order.

    A molecule that the model cannot read is named on stderr, and the others are scored.

    Example: inertial score molecules.sdf --json scores.jsonl

    Args:
        file: SDF, XYZ or JSONL.
        weights: A bundled name, a folder, or a hub id.
        json: Write one JSON object per molecule there, too, with the terms of each atom.
        num_steps: Steps of the flow per atom.
        strict: Leave out molecules unlike all of the training set, rather than warn.
        device: Such as 'cuda'.
    """
    model = load_model(weights, device)
    print(f'{"":>6} {"total":>10} {"types":>10} {"places":>10} {"bonds":>10} {"per atom":>10}  name')
    lines = []
    for record in read_records(file):
        i, name = record.number, name_of(record)
        data: Any = record.molecule
        try:
            if model.writes_bonds:
                data = with_bonds(data)  # also where the file has edges without orders
            data = Data.from_dict({field: data[field] for field in READ if field in data})
            with warnings_name(record):
                value = model.log_prob(data.to(device), num_steps=num_steps, strict=strict)
        except ValueError as error:
            refuse(record, error)
            continue
        types = float(value.type.sum() + value.stop.sum())
        terms = [float(value.total), types, float(value.coord.sum()), float(value.bond.sum())]
        print(f'{i:6} ' + ' '.join(f'{term:10.3f}' for term in [*terms, terms[0] / data.z.numel()]) + f'  {name}')
        lines.append(dict(number=i, name=name, **{field: getattr(value, field).tolist() for field in value._fields}))
    if not lines:
        raise ValueError(f"none of the molecules of '{file}' can be scored")
    if json is not None:
        text = ''.join(to_json.dumps(line) + '\n' for line in lines)
        write_atomically(json, lambda path: path.write_text(text))
