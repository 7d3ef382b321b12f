"""What is written under pictures of molecules: formulas, names, a legend."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch_geometric_inertial.chem.scene import Scene, color_of
from torch_geometric_inertial.elements import SYMBOLS

if TYPE_CHECKING:
    from PIL.Image import Image

INK, RIGHT, WRONG = '#3a4048', '#2fa866', '#a9b0b8'
#: What the dot and the ring mean.
LEGEND = ('all valences are right', 'a valence is wrong')


class Sheet(NamedTuple):
    r"""Where things stand on a sheet of pictures, in pixels."""
    num: int
    columns: int
    size: int
    reach: float  # Å, half the width of a picture
    captions: Sequence[str] | None
    names: Sequence[str] | None
    legend: bool

    @property
    def strip(self) -> int:
        return max(20, self.size // 9)

    @property
    def name_strip(self) -> int:
        return 0 if self.names is None else round(0.62 * self.strip)

    @property
    def legend_strip(self) -> int:
        return round(1.2 * self.strip) if self.legend else 0

    @property
    def extent(self) -> tuple[int, int]:
        rows = math.ceil(self.num / self.columns)
        return self.columns * self.size, rows * (self.size + self.strip + self.name_strip) + self.legend_strip

    def corner(self, i: int) -> tuple[int, int]:
        r"""Of picture :obj:`i`, on the left and above."""
        return i % self.columns * self.size, i // self.columns * (self.size + self.strip + self.name_strip)

    def legend_entries(self, numbers: Sequence[int]) -> list[tuple[int, str]]:
        r"""Atomic number and text of each entry; 0 for the dots."""
        dots = [] if self.captions is not None else [(0, text) for text in LEGEND]
        return [*((number, SYMBOLS[number]) for number in numbers), *dots]


def write_caption(
    image: Image,
    scene: Scene | None,
    caption: str | None,
    center: tuple[float, float],
    height: float,
) -> None:
    r"""A caption, or the formula with a dot that says whether all valences are right."""
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(image)
    font, small = ImageFont.load_default(height), ImageFont.load_default(height * 0.68)
    if caption is not None or scene is None:
        pen.text(center, caption if caption is not None else '–', INK, font, anchor='mm')
        return
    parts = [(text, face) for pair in scene.formula() for text, face in zip(pair, (font, small), strict=True) if text]
    dot = height * 0.5
    x = center[0] - (dot * 1.9 + sum(face.getlength(text) for text, face in parts)) / 2
    baseline = center[1] + height * 0.36
    box = (x, baseline - height * 0.36 - dot / 2, x + dot, baseline - height * 0.36 + dot / 2)
    if scene.stable:
        _disc(image, box, RIGHT, None)
    else:
        _disc(image, box, 'white', WRONG)
    x += dot * 1.9
    for text, face in parts:
        pen.text((x, baseline + (height * 0.16 if face is small else 0)), text, INK, face, anchor='ls')
        x += face.getlength(text)


def write_name(image: Image, sheet: Sheet, i: int) -> None:
    r"""The second line under a picture, cut to its width."""
    from PIL import ImageDraw, ImageFont

    assert sheet.names is not None
    x, y = sheet.corner(i)
    font, name = ImageFont.load_default(sheet.strip * 0.45), sheet.names[i]
    while name and font.getlength(name) > 0.94 * sheet.size:
        name = name.removesuffix('…')[:-1] + '…' if len(name) > 2 else ''
    ImageDraw.Draw(image).text((x + sheet.size / 2, y + sheet.size + sheet.strip + sheet.name_strip * 0.2), name,
                               '#7a828c', font, anchor='mm')


def draw_legend(image: Image, sheet: Sheet, numbers: Sequence[int]) -> None:
    r"""The colors of elements, and what the dots mean, at the bottom."""
    from PIL import ImageDraw, ImageFont

    pen, height = ImageDraw.Draw(image), sheet.legend_strip * 0.42
    font, y, x = ImageFont.load_default(height), sheet.extent[1] - sheet.legend_strip / 2, height * 0.6
    for number, text in sheet.legend_entries(numbers):
        box = (x, y - height * 0.42, x + height * 0.84, y + height * 0.42)
        if number:
            _disc(image, box, color_of(number), '#4d5560' if number == 1 else None)
        else:
            _disc(image, box, RIGHT if text == LEGEND[0] else 'white', None if text == LEGEND[0] else WRONG)
        pen.text((x + height * 1.2, y), text, INK, font, anchor='lm')
        x += height * 2 + font.getlength(text)


def _disc(image: Image, box: tuple[float, float, float, float], fill: str, ring: str | None) -> None:
    """A smooth disc: Pillow's own has jagged edges."""
    from PIL import Image, ImageDraw

    side = math.ceil(box[2] - box[0]) + 2
    big = Image.new('RGB', (side * 4, side * 4), 'white')
    ImageDraw.Draw(big).ellipse((4, 4, side * 4 - 5, side * 4 - 5), fill, ring, 7 if ring else 0)
    image.paste(big.resize((side, side), Image.Resampling.LANCZOS), (round(box[0]) - 1, round(box[1]) - 1))
