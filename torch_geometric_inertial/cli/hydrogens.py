from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_geometric.data import Data

from torch_geometric_inertial.cli.arguments import load_model
from torch_geometric_inertial.cli.files import all_records, name_of, refuse, write_molecules


def hydrogens(
    file: Path,
    weights: str = 'qm9',
    out: Path = Path('hydrogens.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    num_steps: int | None = None,
    batch_size: int | None = None,
    strict: bool = False,
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
        strict: Leave out molecules with more heavy atoms than those of the training set, rather than warn.
        device: Such as 'cuda'.
    """
    model = load_model(weights, device)
    records, refused, added = all_records(file), 0, 0
    heavy: list[Any] = [ValueError(record.error) if record.molecule is None else record.molecule for record in records]
    readable = sum(isinstance(molecule, Data) for molecule in heavy)

    def placed() -> Iterator[Data]:
        nonlocal added, refused
        written = model.stream_hydrogens(heavy, seed=seed, temperature=temperature, num_steps=num_steps,
                                         batch_size=batch_size, strict=strict)
        for record, given, data in zip(records, heavy, written, strict=True):
            if isinstance(data, Data):
                data.title = name_of(record)
                added += data.z.numel() - given.z.numel()
                yield data
            elif isinstance(given, Data):
                refused += 1
                refuse(record, data)
                if refused == readable:
                    raise ValueError(f'none of the {readable} molecules can be read; {data}') from data

    count = write_molecules(placed(), out)
    print(f'wrote {count} molecules with {added} new hydrogens to {out}')
