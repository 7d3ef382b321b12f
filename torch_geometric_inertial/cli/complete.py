from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.cli.arguments import load_model, names
from torch_geometric_inertial.cli.files import name_of, read_records, refuse, warnings_name, write_molecules


def complete(
    file: Path,
    num_samples: int = 16,
    weights: str = 'qm9',
    out: Path = Path('completed.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    num_steps: int | None = None,
    batch_size: int | None = None,
    max_atoms: int | None = None,
    groups: list[str] | str | None = None,
    properties: dict[str, float] | None = None,
    guidance_scale: float = 1.0,
    strict: bool = False,
    device: str = 'cpu',
) -> None:
    r"""Grows molecules from a part, whose atoms stay where they are. A part that the model cannot read is named on
    stderr, and the others are completed.

    Example: inertial complete core.sdf --num-samples 32 --out completed.sdf

    Args:
        file: The parts: SDF, XYZ, JSONL or PDB, with or without hydrogens.
        num_samples: Molecules per part.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: The molecules are a function of it.
        temperature: Of types and bonds; 0 takes the most likely.
        num_steps: Evaluations of the diffusion head per atom.
        batch_size: Molecules at a time.
        max_atoms: Molecules that reach it are cut off.
        groups: Wanted functional groups by name, such as nitrile, or '[alcohol, amine]'.
        properties: Wanted values, such as '{gap: 6.5}'.
        guidance_scale: From unconditional (0) to conditional (1) and beyond.
        strict: Leave out parts with more atoms than the training molecules had, rather than warn.
        device: Such as 'cuda'.
    """
    model = load_model(weights, device)
    records, refused = read_records(file), 0

    def completed() -> Iterator[Data]:
        nonlocal refused
        for record in records:
            try:
                with warnings_name(record):
                    molecules = model.complete(record.molecule, num_samples, seed=seed, temperature=temperature,
                                               num_steps=num_steps, batch_size=batch_size, max_atoms=max_atoms,
                                               groups=names(groups), properties=properties,
                                               guidance_scale=guidance_scale, strict=strict)
            except ValueError as error:
                refused += 1
                refuse(record, error)
                if refused == len(records):
                    raise ValueError(f"none of the {len(records)} parts can be completed; {error}") from error
                continue
            for k, data in enumerate(molecules):
                data.title = f'{name_of(record)}, {k}'
                yield data

    count = write_molecules(completed(), out)
    print(f'wrote {count} molecules around {len(records) - refused} parts to {out}')
