from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.cli.files import read_molecules
from torch_geometric_inertial.metrics import evaluate as judge
from torch_geometric_inertial.metrics import reference_smiles


def evaluate(file: Path, reference: Path | None = None, num_requested: int | None = None,
             json: Path | None = None) -> None:
    r"""Judges the molecules of a file by the EDM protocol.

    Args:
        file: SDF or XYZ.
        reference: Molecules that novelty is counted against, SDF or XYZ.
        num_requested: How many were asked for, if more than the file holds; the others count as failures.
        json: Write the report there, too.
    """
    known = None if reference is None else reference_smiles(read_molecules(reference))
    report = judge(read_molecules(file), reference=known, num_requested=num_requested)
    print(report)
    if json is not None:
        json.write_text(report.to_json())
