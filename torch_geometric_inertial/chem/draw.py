r"""Pictures of molecules: shaded balls and sticks, ray-cast with NumPy, saved with Pillow."""
import base64
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import Bonds, allowed_valences, valences
from torch_geometric_inertial.chem.fields import charges_of, check_molecule, find_bonds, has_orders
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS, closed_valences
from torch_geometric_inertial.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image

COLORS = {
    'H': '#f4f6f8', 'B': '#f2a58b', 'C': '#555d68', 'N': '#3f6fe0', 'O': '#e5382f', 'F': '#5fcf6f', 'Si': '#d9b99b',
    'P': '#f2872e', 'S': '#f3c72c', 'Cl': '#33b34a', 'Br': '#a04330', 'I': '#8a3fb0', 'X': '#e07ac0',
}
_STICK = '#b9c0c9'
_SAMPLES = 3  # rays per pixel, along an edge
_EYE = np.array([0.0, 0.0, 1.0])
_LIGHT = np.array([-0.42, 0.62, 0.66]) / np.linalg.norm([-0.42, 0.62, 0.66])
_HALFWAY = (_LIGHT + _EYE) / np.linalg.norm(_LIGHT + _EYE)


def draw_grid(
    molecules: Sequence[Data | None],
    path: str | Path,
    columns: int = 4,
    size: int = 260,
    captions: Sequence[str] | None = None,
) -> None:
    r"""Saves a picture of each molecule on one sheet: balls and sticks, with its own bonds where it has them and their
    orders, else those of the EDM distance tables; all to one scale, laid flat along their principal axes.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å). One that cannot be drawn leaves an empty cell.
        path: The file, a PNG picture or, where its name ends in .svg, an SVG drawing that holds it.
        columns: Pictures in a row.
        size: Width of a picture in pixels.
        captions: A line under each picture; by default its formula, with a green dot where all valences are right by
            its own bonds (by distances where it has none) and a grey ring where not.

    Raises:
        ValueError: If there is nothing to draw, an argument is not positive, or the captions do not match.
        ImportError: Without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("drawing needs Pillow: pip install pillow") from error

    if len(molecules) == 0:
        raise ValueError("'molecules' must hold at least one molecule (got none)")
    if columns < 1 or size < 32:
        raise ValueError(f"'columns' must be at least 1 and 'size' at least 32 pixels (got {columns} and {size})")
    if captions is not None and len(captions) != len(molecules):
        raise ValueError(f"'captions' must be one a molecule, {len(molecules)} (got {len(captions)})")

    scenes = [_scene(data) for data in molecules]
    reach = max((scene.reach for scene in scenes if scene is not None), default=1.0)
    columns = min(columns, len(molecules))
    strip = max(20, size // 9)
    rows = math.ceil(len(molecules) / columns)
    sheet = Image.new('RGB', (columns * size, rows * (size + strip)), 'white')
    for i, scene in enumerate(scenes):
        corner = (i % columns * size, i // columns * (size + strip))
        if scene is not None:
            sheet.paste(Image.fromarray(scene.render(size, reach)), corner)
        caption = None if captions is None else captions[i]
        _write_caption(sheet, scene, caption, (corner[0] + size / 2, corner[1] + size + strip * 0.36), strip * 0.62)
    picture = io.BytesIO()
    sheet.save(picture, format='PNG', optimize=True)
    content = picture.getvalue()
    if str(path).lower().endswith('.svg'):
        content = _svg(content, *sheet.size)
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _svg(png: bytes, width: int, height: int) -> bytes:
    """An SVG file whose content is the picture: the shading is computed, and has no vectors."""
    return (f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
            f'viewBox="0 0 {width} {height}"><image width="{width}" height="{height}" '
            f'href="data:image/png;base64,{base64.b64encode(png).decode()}"/></svg>\n').encode()


class _Scene:
    """A molecule turned to its best side, and what must be drawn of it."""
    def __init__(self, data: Data):
        z, pos = check_molecule(data)
        pairs, orders = find_bonds(data)
        bonds = Bonds(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t(), torch.tensor(orders, dtype=torch.long))
        self.numbers = z.tolist()
        self.pos = _turned(pos.numpy())
        self.bonds = [(u, v, order) for (u, v), order in zip(pairs, orders, strict=True)]
        self.radius = 0.15 + 0.33 * COVALENT_RADII[z].numpy()
        valence = valences(bonds, z.numel())
        if has_orders(data):
            charges = charges_of(data) or [0] * z.numel()
            self.stable = all(v in closed_valences(*atom) for v, *atom in zip(
                valence.tolist(), self.numbers, charges, strict=True))
        else:
            allowed = allowed_valences()
            self.stable = bool(allowed[z, valence.clamp(max=allowed.size(1) - 1)].all())
        self.reach = float((np.abs(self.pos[:, :2]).max(1) + self.radius).max())

    def formula(self) -> list[tuple[str, str]]:
        """Hill order: carbon, hydrogen, the rest by name; [(symbol, count), …]."""
        symbols = [SYMBOLS[number] for number in self.numbers]
        first = ['C', 'H'] if 'C' in symbols else []
        order = [s for s in first if s in symbols] + sorted(set(symbols) - set(first))
        return [(s, str(symbols.count(s)) if symbols.count(s) > 1 else '') for s in order]

    def render(self, size: int, reach: float) -> np.ndarray:
        canvas = _Canvas(size * _SAMPLES, reach * 1.04)
        for center, radius, number in zip(self.pos, self.radius, self.numbers, strict=True):
            canvas.ball(center, radius, _rgb(COLORS.get(SYMBOLS[number], COLORS['X'])))
        for u, v, order in self.bonds:
            thickness, spread = {1: (0.115, 0.0), 2: (0.078, 0.135), 3: (0.056, 0.155)}[order]
            along = self.pos[v] - self.pos[u]
            aside = np.array([-along[1], along[0], 0.0])  # in the plane of the picture, so that no stick hides another
            aside = aside / np.linalg.norm(aside) if np.linalg.norm(aside) > 1e-6 else np.array([1.0, 0.0, 0.0])
            for step in {1: (0,), 2: (-1, 1), 3: (-1, 0, 1)}[order]:
                shift = aside * spread * step
                canvas.stick(self.pos[u] + shift, self.pos[v] + shift, thickness, _rgb(_STICK))
        return canvas.picture()


class _Canvas:
    """Orthographic rays towards -z over the square [-reach, reach]², with a depth buffer."""
    def __init__(self, pixels: int, reach: float):
        self.axis = (np.arange(pixels) + 0.5) / pixels * 2 * reach - reach
        self.step = 2 * reach / pixels
        self.depth = np.full((pixels, pixels), -np.inf)
        self.normal = np.zeros((pixels, pixels, 3))
        self.color = np.ones((pixels, pixels, 3))

    def ball(self, center: np.ndarray, radius: float, color: np.ndarray) -> None:
        rows, cols, x, y = self._window(center[:2] - radius, center[:2] + radius)
        x, y = x - center[0], y - center[1]
        height2 = radius**2 - x**2 - y**2
        height = np.sqrt(np.maximum(height2, 0))
        normal = np.stack(np.broadcast_arrays(x, y, height), -1) / radius
        self._put(rows, cols, height2 > 0, center[2] + height, normal, color)

    def stick(self, start: np.ndarray, end: np.ndarray, radius: float, color: np.ndarray) -> None:
        length = np.linalg.norm(end - start)
        d = (end - start) / length
        if abs(d[2]) > 1 - 1e-9:  # seen end on: hidden behind its atom
            return
        rows, cols, x, y = self._window(np.minimum(start, end)[:2] - radius, np.maximum(start, end)[:2] + radius)
        x, y = x - start[0], y - start[1]
        # The point w = (x, y, t) of the ray is on the cylinder where |w|² - (w·d)² = r².
        flat = x * d[0] + y * d[1]
        a, b, c = 1 - d[2]**2, -flat * d[2], x**2 + y**2 - flat**2 - radius**2
        inside = b**2 - a * c
        t = (-b + np.sqrt(np.maximum(inside, 0))) / a
        s = flat + t * d[2]
        normal = (np.stack(np.broadcast_arrays(x, y, t), -1) - s[..., None] * d) / radius
        self._put(rows, cols, (inside > 0) & (s > 0) & (s < length), start[2] + t, normal, color)

    def _window(self, low: np.ndarray, high: np.ndarray) -> tuple[slice, slice, np.ndarray, np.ndarray]:
        (x0, y0), (x1, y1) = np.searchsorted(self.axis, low), np.searchsorted(self.axis, high)
        return slice(y0, y1), slice(x0, x1), self.axis[None, x0:x1], self.axis[y0:y1, None]

    def _put(
        self,
        rows: slice,
        cols: slice,
        hit: np.ndarray,
        depth: np.ndarray,
        normal: np.ndarray,
        color: np.ndarray,
    ) -> None:
        nearer = hit & (depth > self.depth[rows, cols])
        self.depth[rows, cols][nearer] = depth[nearer]
        self.normal[rows, cols][nearer] = normal[nearer]
        self.color[rows, cols][nearer] = color

    def picture(self) -> np.ndarray:
        """Shades every point hit, and averages the rays of each pixel: uint8 [size, size, 3]."""
        hit = np.isfinite(self.depth)
        diffuse = np.clip(self.normal @ _LIGHT, 0, 1)
        shine = np.clip(self.normal @ _HALFWAY, 0, 1) ** 60
        rim = 1 - np.clip(self.normal[..., 2], 0, 1)
        light = (0.50 + 0.56 * diffuse) * (1 - 0.35 * rim**3) * self._openness(hit)
        shaded = np.clip(self.color * light[..., None], 0, 1) + 0.42 * shine[..., None]
        if hit.any():
            low, high = self.depth[hit].min(), self.depth[hit].max()
            mist = 0.30 * (high - np.where(hit, self.depth, high)) / max(high - low, 4.0)
            shaded = shaded * (1 - mist[..., None]) + mist[..., None]
        shaded[self._outline(hit)] *= 0.55
        shaded[~hit] = 1
        image = np.clip(shaded[::-1], 0, 1)
        size = image.shape[0] // _SAMPLES
        image = image.reshape(size, _SAMPLES, size, _SAMPLES, 3).mean((1, 3))
        return (image * 255 + 0.5).astype(np.uint8)

    def _openness(self, hit: np.ndarray) -> np.ndarray:
        """Less light where the surroundings stand nearer to the eye: ambient occlusion of the depth buffer."""
        depth = np.where(hit, self.depth, -1e3)
        blocked = np.zeros_like(depth)
        directions = [(math.cos(k * math.pi / 4), math.sin(k * math.pi / 4)) for k in range(8)]
        for distance in (0.12, 0.28):
            for dx, dy in directions:
                shift = round(dy * distance / self.step), round(dx * distance / self.step)
                around = _shifted(depth, *shift)
                rise = around - depth
                blocked += np.where((rise > 0.05) & (rise < 1.5), 1.0, 0.0) * np.clip(rise / 0.25, 0, 1)
        return 1 - 0.38 * blocked / (2 * len(directions))

    def _outline(self, hit: np.ndarray) -> np.ndarray:
        """The nearer side of every jump in depth."""
        depth = np.where(hit, self.depth, -1e3)
        edge = np.zeros_like(hit)
        for dy, dx in ((1, 0), (-1, 0), (0, 1), (0, -1)):
            edge |= hit & (depth - _shifted(depth, dy, dx) > 0.28)
        return edge


def _shifted(image: np.ndarray, dy: int, dx: int) -> np.ndarray:
    return np.roll(image, (dy, dx), (0, 1))


def _turned(pos: np.ndarray) -> np.ndarray:
    """Principal axes along x, y and the line of sight, then a little aside, so that depth shows."""
    pos = pos - pos.mean(0)
    _, _, axes = np.linalg.svd(pos, full_matrices=len(pos) >= 3)
    if len(pos) >= 3:
        axes[2] *= np.linalg.det(axes)  # never the mirror image
        pos = pos @ axes.T
    elif len(pos) == 2:
        pos = np.array([[-1, 0, 0], [1, 0, 0]]) * np.linalg.norm(pos[0])
    a, b = math.radians(18), math.radians(-22)
    tilt = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    turn = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    pos = pos @ (tilt @ turn).T
    pos[:, :2] -= (pos[:, :2].max(0) + pos[:, :2].min(0)) / 2
    return pos


def _scene(data: Data | None) -> _Scene | None:
    try:
        return None if data is None else _Scene(data)
    except ValueError:
        return None


def _write_caption(
    sheet: 'Image',
    scene: _Scene | None,
    caption: str | None,
    center: tuple[float, float],
    height: float,
) -> None:
    from PIL import ImageDraw, ImageFont

    pen = ImageDraw.Draw(sheet)
    font, small = ImageFont.load_default(height), ImageFont.load_default(height * 0.68)
    ink = '#3a4048'
    if caption is not None or scene is None:
        pen.text(center, caption if caption is not None else '–', ink, font, anchor='mm')
        return
    parts = [(text, face) for pair in scene.formula() for text, face in zip(pair, (font, small), strict=True) if text]
    dot = height * 0.5
    x = center[0] - (dot * 1.9 + sum(face.getlength(text) for text, face in parts)) / 2
    baseline = center[1] + height * 0.36
    box = (x, baseline - height * 0.36 - dot / 2, x + dot, baseline - height * 0.36 + dot / 2)
    if scene.stable:
        _disc(sheet, box, '#2fa866', None)
    else:
        _disc(sheet, box, 'white', '#a9b0b8')
    x += dot * 1.9
    for text, face in parts:
        pen.text((x, baseline + (height * 0.16 if face is small else 0)), text, ink, face, anchor='ls')
        x += face.getlength(text)


def _disc(sheet: 'Image', box: tuple[float, float, float, float], fill: str, ring: str | None) -> None:
    """A smooth disc: Pillow's own has jagged edges."""
    from PIL import Image, ImageDraw

    side = math.ceil(box[2] - box[0]) + 2
    big = Image.new('RGB', (side * 4, side * 4), 'white')
    ImageDraw.Draw(big).ellipse((4, 4, side * 4 - 5, side * 4 - 5), fill, ring, 7 if ring else 0)
    sheet.paste(big.resize((side, side), Image.Resampling.LANCZOS), (round(box[0]) - 1, round(box[1]) - 1))


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[k:k + 2], 16) for k in (1, 3, 5)]) / 255
