r"""Pictures of molecules: shaded balls and sticks as PNG, circles and lines as SVG."""
from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from torch_geometric.data import Data

from torch_geometric_inertial.chem.captions import Sheet, draw_legend, write_caption, write_name
from torch_geometric_inertial.chem.draw_svg import svg_sheet
from torch_geometric_inertial.chem.raycast import render
from torch_geometric_inertial.chem.scene import Scene, scene_or_none
from torch_geometric_inertial.files import write_atomically

ENDINGS = ('.png', '.svg')


def draw_grid(
    molecules: Sequence[Data | None],
    path: str | Path,
    columns: int = 4,
    size: int = 260,
    captions: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    legend: bool = False,
) -> None:
    r"""Saves a picture of each molecule on one sheet: balls and sticks, with its own bonds where it has them and their
    orders, else those of the EDM distance tables; all to one scale, laid flat along their principal axes.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å). One that cannot be drawn leaves an empty cell.
        path: The file: ``.png``, a shaded picture, or ``.svg``, a drawing of circles and lines.
        columns: Pictures in a row.
        size: Width of a picture in pixels.
        captions: A line under each picture; by default its formula, with a green dot where all valences are right by
            its own bonds (by distances where it has none) and a gray ring where not.
        names: A second line under each picture.
        legend: Whether a line at the bottom tells the colors of the elements and what the dots mean.

    Raises:
        ValueError: If there is nothing to draw, an argument is not positive, the captions or names do not match, or the
            file is to be neither PNG nor SVG.
        ImportError: Without Pillow, which PNG needs.
    """
    if len(molecules) == 0:
        raise ValueError("'molecules' must hold at least one molecule (got none)")
    if columns < 1 or size < 32:
        raise ValueError(f"'columns' must be at least 1 and 'size' at least 32 pixels (got {columns} and {size})")
    for what, texts in (('captions', captions), ('names', names)):
        if texts is not None and len(texts) != len(molecules):
            raise ValueError(f"'{what}' must be one a molecule, {len(molecules)} (got {len(texts)})")
    ending = Path(path).suffix.lower()
    if ending not in ENDINGS:
        raise ValueError(f"'path' must end in .png or .svg (got '{path}')")
    scenes = [scene_or_none(data) for data in molecules]
    reach = 1.04 * max((scene.reach for scene in scenes if scene is not None), default=1.0)
    sheet = Sheet(len(molecules), min(columns, len(molecules)), size, reach, captions, names, legend)
    content = svg_sheet(scenes, sheet).encode() if ending == '.svg' else _png(scenes, sheet)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _png(scenes: Sequence[Scene | None], sheet: Sheet) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("drawing needs Pillow: pip install 'torch_geometric_inertial[chem]'") from error

    image = Image.new('RGB', sheet.extent, 'white')
    for i, scene in enumerate(scenes):
        x, y = sheet.corner(i)
        if scene is not None:
            image.paste(Image.fromarray(render(scene, sheet.size, sheet.reach)), (x, y))
        center = (x + sheet.size / 2, y + sheet.size + sheet.strip * 0.36)
        caption = None if sheet.captions is None else sheet.captions[i]
        write_caption(image, scene, caption, center, sheet.strip * 0.62)
        if sheet.names is not None:
            write_name(image, sheet, i)
    if sheet.legend:
        draw_legend(image, sheet, sorted({n for scene in scenes if scene is not None for n in scene.numbers}))
    picture = io.BytesIO()
    image.save(picture, format='PNG', optimize=True)
    return picture.getvalue()
