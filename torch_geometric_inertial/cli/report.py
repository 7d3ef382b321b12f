from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.report import write_report


def report(files: list[Path], out: Path = Path('report.html'), protocol: str | None = None,
           reference: Path | None = None, num_shown: int = 100, workers: int | None = None) -> None:
    r"""Writes a page on one or several files of molecules, side by side: figures, distributions, failures, and the
    molecules in three dimensions. It is one file, and needs no network.

    Example: inertial report mine.sdf theirs.sdf --protocol geom-revisited --out report.html

    Args:
        files: SDF, XYZ, PDB or JSONL, up to six.
        out: The page.
        protocol: Of `inertial evaluate`. By default bonds where all files have them, and edm-qm9 elsewhere.
        reference: Real molecules, whose figures and distributions stand beside.
        num_shown: How many molecules of each file are drawn: the worst 12 failures, and the first others.
        workers: Processes to judge in.
    """
    names = [file.name for file in files]
    titles = [str(file) if names.count(file.name) > 1 else file.name for file in files]
    if len(set(titles)) < len(titles):
        raise ValueError(f"'files' must be different (got {', '.join(titles)})")
    reports = write_report(dict(zip(titles, files, strict=True)), out, protocol, reference, num_shown, workers)
    for title, one in reports.items():
        print(f'{title}: {one.status.count("ok")} of {one.num_requested} ok ({one.key})')
    print(f'wrote {out}')
