r"""Shaded balls and sticks, ray-cast with NumPy."""
from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from torch_geometric_inertial.chem.scene import STICK, Scene, color_of

_SAMPLES = 3  # rays per pixel, along an edge
_EYE = np.array([0.0, 0.0, 1.0])
_LIGHT = np.array([-0.42, 0.62, 0.66]) / np.linalg.norm([-0.42, 0.62, 0.66])
_HALFWAY = (_LIGHT + _EYE) / np.linalg.norm(_LIGHT + _EYE)


def render(scene: Scene, size: int, reach: float,
           dots: Iterable[tuple[Sequence[float], float, tuple[float, float, float]]] = ()) -> np.ndarray:
    r"""The picture of a molecule over the square [-reach, reach]² (Å): uint8 [size, size, 3]; further balls are given
    by center, radius and color."""
    canvas = _Canvas(size * _SAMPLES, reach)
    for center, radius, number in zip(scene.pos, scene.radius, scene.numbers, strict=True):
        canvas.ball(center, radius, _rgb(color_of(number)))
    for start, end, thickness, *_ in scene.sticks():
        canvas.stick(start, end, thickness, _rgb(STICK))
    for center, radius, color in dots:
        canvas.ball(np.asarray(center), radius, np.asarray(color))
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


def _rgb(color: str) -> np.ndarray:
    return np.array([int(color[k:k + 2], 16) for k in (1, 3, 5)]) / 255
