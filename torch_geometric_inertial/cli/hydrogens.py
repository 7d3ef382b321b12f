from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_inertial.cli.device import usable
from torch_geometric_inertial.cli.files import name_of, read_records, refuse, write_molecules
from torch_geometric_inertial.models import AtomAutoregressor

CHUNK = 512  #: Molecules that are read together.


def hydrogens(
    file: Path,
    weights: str = 'qm9',
    out: Path = Path('hydrogens.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    num_steps: int | None = None,
    batch_size: int | None = None,
    device: str = 'cpu',
) -> None:
    r"""Places the hydrogens of molecules that lack some or all; the atoms that are there stay where they are.
    A molecule that the model cannot read is named on stderr, and the others are written.

    Example: inertial hydrogens crystal.pdb --out whole.sdf

    Args:
        file: SDF, XYZ, JSONL or PDB.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: The places are a function of it.
        temperature: Of the decision to place another; 0 takes the most likely.
        num_steps: Evaluations of the diffusion head per atom.
        batch_size: Molecules at a time.
        device: Such as 'cuda'.
    """
    model = AtomAutoregressor.from_pretrained(weights, device=usable(device))
    records, refused, added = read_records(file), 0, 0

    settings: Any = dict(seed=seed, temperature=temperature, num_steps=num_steps, batch_size=batch_size)

    def placed() -> Iterator[Data]:
        nonlocal added, refused
        left = iter(records)
        while chunk := list(islice(left, CHUNK)):
            heavy: list[Any] = [record.molecule for record in chunk]
            try:
                written = model.add_hydrogens(heavy, **settings)
            except ValueError:  # one by one, to know which
                written = []
                for record, data in zip(chunk, heavy, strict=True):
                    try:
                        written.append(model.add_hydrogens(data, **settings))
                    except ValueError as error:
                        written.append(None)
                        refused += 1
                        refuse(record, error)
                        if refused == len(records):
                            raise ValueError(f'none of the {len(records)} molecules can be read; {error}') from error
            for record, given, data in zip(chunk, heavy, written, strict=True):
                if data is not None:
                    data.title = name_of(record)
                    added += data.z.numel() - given.z.numel()
                    yield data

    count = write_molecules(placed(), out)
    print(f'wrote {count} molecules with {added} new hydrogens to {out}')
