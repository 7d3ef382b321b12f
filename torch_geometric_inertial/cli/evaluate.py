from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.files import write_atomically
from torch_geometric_inertial.metrics import evaluate as judge


def evaluate(file: Path, protocol: str | None = None, reference: Path | None = None, num_requested: int | None = None,
             workers: int | None = None, json: Path | None = None) -> None:
    r"""Judges the molecules of a file. Records that cannot be read are failures, and in the denominator.

    Example: inertial evaluate molecules.sdf --protocol edm-qm9 --json report.json

    Args:
        file: SDF, XYZ, PDB or JSONL.
        protocol: edm-qm9, edm-geom, bonds, geom-revisited, geometry, posebusters, strain, strain-xtb, xyz2mol-ctd or
            xyz2mol-vdw. By default bonds where the file has them, and edm-qm9 elsewhere.
        reference: Real molecules, whose figures stand beside and that novelty is counted against.
        num_requested: How many were asked for, if more than the file holds; the others count as failures.
        workers: Processes to judge in.
        json: Write the report there, too.
    """
    report = judge(file, protocol, reference, num_requested, workers)
    print(report)
    if json is not None:
        write_atomically(json, lambda path: path.write_text(report.to_json()))
