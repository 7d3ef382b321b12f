from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.chem import draw_grid
from torch_geometric_inertial.cli.files import read_molecules


def view(file: Path, out: Path = Path('molecules.png'), num: int = 16, columns: int = 4) -> None:
    r"""Draws the molecules of a file as one PNG.

    Args:
        file: SDF or XYZ.
        out: The picture.
        num: How many to draw, from the first.
        columns: Pictures in a row.
    """
    draw_grid(read_molecules(file)[:num], out, columns=columns)
    print(f'wrote {out}')
