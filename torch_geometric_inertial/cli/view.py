from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.chem import draw_grid
from torch_geometric_inertial.cli.files import all_records, name_of


def view(file: Path, out: Path = Path('molecules.png'), num: int = 16, columns: int = 4,
         names: bool = True, legend: bool = True) -> None:
    r"""Draws the molecules of a file, with its bonds where it has them. A record that cannot be read leaves its place
    empty.

    Example: inertial view molecules.sdf --num 36 --columns 6 --out molecules.png

    Args:
        file: SDF, XYZ, JSONL or PDB.
        out: The picture: .png, or .svg.
        num: How many to draw, from the first.
        columns: Pictures in a row.
        names: Whether the titles in the file, or the numbers, stand under the pictures.
        legend: Whether a line tells the colors, and the meaning of the dots: green where all valences are right.
    """
    if num < 1:
        raise ValueError(f"'num' must be at least 1 (got {num})")
    if out.suffix.lower() not in ('.png', '.svg'):
        raise ValueError(f"'out' must end in .png or .svg (got '{out}')")
    records = all_records(file)[:num]
    draw_grid([record.molecule for record in records], out, columns=columns, legend=legend,
              names=[name_of(record) for record in records] if names else None)
    print(f'wrote {out}')
