r"""A molecule as a model writes it: atom by atom, each on its way from noise to its place."""
from __future__ import annotations

import copy
import html
import io
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.raycast import render
from torch_geometric_inertial.chem.scene import Scene
from torch_geometric_inertial.files import write_atomically
from torch_geometric_inertial.models import AtomAutoregressor
from torch_geometric_inertial.models.written_paths import written_paths
from torch_geometric_inertial.report.document import document, filled
from torch_geometric_inertial.report.library import static
from torch_geometric_inertial.report.scene import graph_of, palette, scene_of
from torch_geometric_inertial.superpose import kabsch_rotations

#: Steps of a way are shown within so many times the extent of the molecule, which counts as so many Å at least.
REACH, LEAST_EXTENT = 1.5, 1.5
STEP_SECONDS, LAST_SECONDS = 0.06, 3.0
DOT, DOT_COLOR = 0.07, (0.88, 0.48, 0.75)  #: Of a way: radius in Å, and its color.


class Frame(NamedTuple):
    r"""A moment: atoms 0 … placed - 1 are in their places, and the next one is at the end of its way so far."""
    placed: int
    way: list[list[float]]


def write_animation(model: AtomAutoregressor, out: str | Path, *, index: int = 0, seed: int = 0,
                    size: int = 240, **sampling) -> Data:
    r"""Shows how molecule :obj:`index` of :meth:`~torch_geometric_inertial.models.AtomAutoregressor.generate` is
    written: a GIF, or a page that needs no network, to be stopped and turned. Dots mark the way of each new atom,
    from where it comes near.

    Args:
        model: The generator.
        out: The file, ``.gif`` or ``.html``.
        index: Number of the molecule.
        seed: Of all molecules.
        size: Width of the GIF in pixels.
        **sampling: ``temperature``, ``place_temperature``, ``top_p``, ``num_steps``, ``solver``.

    Returns:
        The molecule.

    Raises:
        ValueError: If the file is to be neither, or an argument is out of range.
        ImportError: Without Pillow, which a GIF needs.
    """
    check_animation(out, 'out')
    if not 32 <= size <= 2000:
        raise ValueError(f"'size' must be 32 to 2000 pixels (got {size})")
    data, ways = written_paths(model, index, seed, **sampling)
    content = _gif(data, ways, size) if Path(out).suffix.lower() == '.gif' else _page(data, ways, index, seed).encode()
    write_atomically(out, lambda temporary: temporary.write_bytes(content))
    return data


def check_animation(out: str | Path, name: str = 'animation') -> None:
    r"""Refuses a file that is not to be a GIF or a page.

    Raises:
        ValueError: If it is another, or a folder.
    """
    if Path(out).suffix.lower() not in ('.gif', '.html', '.htm'):
        raise ValueError(f"'{name}' must end in .gif or .html (got '{out}')")
    if Path(out).is_dir():
        raise ValueError(f"'{name}' must be a file, not a folder (got '{out}')")


def frames(pos: Tensor, ways: list[Tensor]) -> Iterator[Frame]:
    r"""The moments of an animation.

    Args:
        pos (Tensor): Places of the atoms [N, 3].
        ways (list): Of each [S, 3], in the axes of the picture.
    """
    center = pos.mean(dim=0)
    far = REACH * max(float((pos - center).norm(dim=1).max()), LEAST_EXTENT)
    for count, way in enumerate(ways):
        near = ((way - center).norm(dim=1) < far).flip(0).cumprod(0).flip(0).bool()  # from where it stays near
        shown = way[near].tolist()
        for end in range(1, len(shown)):
            yield Frame(count, shown[:end])
        yield Frame(count + 1, [])


def _moved(ways: list[Tensor], pos: Tensor, target: Tensor) -> list[Tensor]:
    r"""Ways by the rigid motion that lays the places of the atoms on those in the picture."""
    turn = kabsch_rotations(pos, target, torch.tensor([0, len(pos)]))[0]
    start, end = pos.double().mean(dim=0), target.double().mean(dim=0)
    return [(way.double() - start) @ turn.T + end for way in ways]


def _gif(data: Data, ways: list[Tensor], size: int) -> bytes:
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("a GIF needs Pillow: pip install 'torch_geometric_inertial[chem]'") from error
    whole = Scene(data)
    target = torch.from_numpy(whole.pos)
    reach = 1.25 * whole.reach
    images = []
    for frame in frames(target, _moved(ways, data.pos, target)):
        scene, count = copy.copy(whole), frame.placed + bool(frame.way)
        scene.numbers, scene.radius, scene.pos = whole.numbers[:count], whole.radius[:count], whole.pos[:count].copy()
        scene.bonds = [bond for bond in whole.bonds if max(bond[:2]) < frame.placed]
        if frame.way:
            scene.pos[-1] = frame.way[-1]
        dots = [(place, DOT, DOT_COLOR) for place in frame.way[:-1]]
        images.append(Image.fromarray(render(scene, size, reach, dots)).quantize(64, dither=Image.Dither.NONE))
    times = [round(1000 * STEP_SECONDS)] * (len(images) - 1) + [round(1000 * LAST_SECONDS)]
    picture = io.BytesIO()
    images[0].save(picture, format='GIF', save_all=True, append_images=images[1:], duration=times, loop=0)
    return picture.getvalue()


def _page(data: Data, ways: list[Tensor], index: int, seed: int) -> str:
    graph = graph_of(data)
    target = torch.tensor(graph.pos, dtype=torch.float64)
    shown = [dict(placed=frame.placed, way=[[round(x, 3) for x in place] for place in frame.way])
             for frame in frames(target, _moved(ways, data.pos, target))]
    scene = scene_of(graph)
    content = dict(molecule=scene, frames=shown, seconds=STEP_SECONDS,
                   palette={symbol: one for symbol, one in palette().items() if symbol in scene['elem']})
    title = html.escape(f'{scene["formula"]}, molecule {index} of seed {seed}')
    return document(filled(static('animation.html'), dict(title=title)), title, content, css=static('animation.css'),
                    script=static('animation.js'))
