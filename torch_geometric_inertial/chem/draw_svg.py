r"""Pictures of molecules as SVG: circles, lines and texts, from back to front."""
from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np

from torch_geometric_inertial.chem.captions import INK, LEGEND, RIGHT, WRONG, Sheet
from torch_geometric_inertial.chem.scene import STICK, Scene, color_of

_FONT = 'font-family="Helvetica, Arial, sans-serif"'


def svg_sheet(scenes: Sequence[Scene | None], sheet: Sheet) -> str:
    r"""The sheet as an SVG document."""
    numbers = sorted({number for scene in scenes if scene is not None for number in scene.numbers})
    gradients = ''.join(
        f'<radialGradient id="e{number}" cx=".35" cy=".3" r=".75"><stop offset="0" stop-color="#fff"/>'
        f'<stop offset=".3" stop-color="{color_of(number)}"/>'
        f'<stop offset="1" stop-color="{_darker(color_of(number))}"/></radialGradient>' for number in numbers)
    width, height = sheet.extent
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
             f'viewBox="0 0 {width} {height}"><defs>{gradients}</defs><rect width="100%" height="100%" fill="#fff"/>']
    for i, scene in enumerate(scenes):
        x, y = sheet.corner(i)
        if scene is not None:
            half = sheet.size / 2
            parts.append(f'<g transform="translate({x + half:g} {y + half:g})">'
                         f'{_molecule(scene, half / sheet.reach)}</g>')
        parts += _captions(scene, sheet, i)
    return ''.join([*parts, *_legend(numbers, sheet), '</svg>\n'])


def _molecule(scene: Scene, scale: float) -> str:
    drawn: list[tuple[float, str]] = []
    for center, radius, number in zip(scene.pos, scene.radius, scene.numbers, strict=True):
        x, y = scale * center[0], -scale * center[1]
        drawn.append((center[2], f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{scale * radius:.1f}" fill="url(#e{number})" '
                                 f'stroke="#4d5560" stroke-width="{0.02 * scale:.2f}"/>'))
    for start, end, thickness, u, v in scene.sticks():
        way = (end - start) / np.linalg.norm(end - start)
        a, b = start + 0.85 * scene.radius[u] * way, end - 0.85 * scene.radius[v] * way  # from surface to surface
        line = f'x1="{scale * a[0]:.1f}" y1="{-scale * a[1]:.1f}" x2="{scale * b[0]:.1f}" y2="{-scale * b[1]:.1f}"'
        depth = min(scene.pos[u, 2], scene.pos[v, 2]) + 1e-3
        wide = 2 * thickness * scale
        drawn.append((depth, f'<line {line} stroke="#59616c" stroke-width="{wide + 0.04 * scale:.2f}"/>'
                             f'<line {line} stroke="{STICK}" stroke-width="{wide:.2f}"/>'))
    return ''.join(text for _, text in sorted(drawn, key=lambda one: one[0]))


def _captions(scene: Scene | None, sheet: Sheet, i: int) -> list[str]:
    x, y = sheet.corner(i)
    middle, line, height = x + sheet.size / 2, y + sheet.size + sheet.strip * 0.56, sheet.strip * 0.62
    parts = []
    if sheet.captions is not None or scene is None:
        parts.append(_text(middle, line, height, '–' if sheet.captions is None else sheet.captions[i]))
    else:
        formula = ''.join(symbol + (f'<tspan font-size="{height * 0.68:.1f}" dy="{height * 0.16:.1f}">{count}</tspan>'
                                    f'<tspan dy="{-height * 0.16:.1f}">\u200b</tspan>' if count else '')
                          for symbol, count in scene.formula())
        dot = f'<tspan fill="{RIGHT if scene.stable else WRONG}">{"●" if scene.stable else "○"}</tspan> '
        parts.append(_text(middle, line, height, dot + formula, escaped=True))
    if sheet.names is not None:
        parts.append(_text(middle, line + sheet.name_strip, height * 0.72, _cut(sheet.names[i], sheet.size,
                                                                                height * 0.72), color='#7a828c'))
    return parts


def _cut(name: str, width: float, height: float) -> str:
    most = int(0.94 * width / (0.56 * height))  # letters of a usual width
    return name if len(name) <= most else name[:most - 1] + '…'


def _legend(numbers: Sequence[int], sheet: Sheet) -> list[str]:
    if not sheet.legend:
        return []
    parts, y, height = [], sheet.extent[1] - sheet.legend_strip / 2, sheet.legend_strip * 0.42
    x = height
    for number, text in sheet.legend_entries(numbers):
        color = color_of(number) if number > 0 else RIGHT if text == LEGEND[0] else '#fff'
        edge = WRONG if number == 0 and text == LEGEND[1] else '#4d5560' if number > 0 else 'none'
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{height * 0.42:.1f}" fill="{color}" stroke="{edge}"/>')
        parts.append(_text(x + height * 0.8, y + height * 0.36, height, text, anchor='start'))
        x += height * (2.2 + 0.56 * len(text))
    return parts


def _text(x: float, y: float, height: float, text: str, color: str = INK, anchor: str = 'middle',
          escaped: bool = False) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{height:.1f}" text-anchor="{anchor}" fill="{color}" {_FONT}>'
            f'{text if escaped else html.escape(text)}</text>')


def _darker(color: str) -> str:
    return '#' + ''.join(f'{round(0.72 * int(color[k:k + 2], 16)):02x}' for k in (1, 3, 5))
