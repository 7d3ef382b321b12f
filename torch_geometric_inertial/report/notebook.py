r"""Molecules in a notebook, to be turned by hand."""
from __future__ import annotations

import math
from typing import Any

from torch_geometric_inertial.chem.scene import COLORS
from torch_geometric_inertial.chem.sdf_block import sdf_block
from torch_geometric_inertial.metrics.inputs import as_items

#: As many share one picture; more are slow in a browser.
MOST = 36


def view(molecules: Any, columns: int = 4, size: int = 220, js: str | None = None) -> Any:
    r"""Shows molecules in a notebook, by py3Dmol: drag to turn them, all together. Bonds are their own, or, where they
    bring none, those of the EDM distance tables.

    Args:
        molecules: What :func:`~torch_geometric_inertial.metrics.evaluate` takes: one molecule, several, or a file; at
            most 36.
        columns: Pictures in a row.
        size: Width of a picture in pixels; one alone is twice as wide.
        js: Address of 3Dmol.js. By default that of py3Dmol, which needs a network.

    Returns:
        py3Dmol.view: The last value of a cell is shown; its methods change it.

    Raises:
        ImportError: Without py3Dmol.
        ValueError: If there is nothing to show, more than 36, or a molecule cannot be drawn.
    """
    try:
        import py3Dmol
    except ImportError as error:
        raise ImportError("'view' needs py3Dmol: pip install 'torch_geometric_inertial[notebook]'") from error

    if columns < 1 or size < 32:
        raise ValueError(f"'columns' must be at least 1 and 'size' at least 32 pixels (got {columns} and {size})")
    items = as_items(molecules)
    if not 1 <= len(items) <= MOST:
        raise ValueError(f"'molecules' must be 1 to {MOST} molecules (got {len(items)})")
    blocks = []
    for i, data in enumerate(items):
        if data is None or isinstance(data, Exception):
            raise ValueError(f'molecule {i} cannot be drawn: {data or "it is missing"}')
        blocks.append(sdf_block(data, i))
    columns = min(columns, len(blocks))
    rows = math.ceil(len(blocks) / columns)
    side = 2 * size if len(blocks) == 1 else size
    shown = py3Dmol.view(width=columns * side, height=rows * side, viewergrid=(rows, columns),
                         **({} if js is None else dict(js=js)))
    scheme = dict(prop='elem', map=COLORS)
    for i, block in enumerate(blocks):
        cell = divmod(i, columns)
        shown.addModel(block, 'sdf', viewer=cell)
        shown.setStyle({}, dict(stick=dict(radius=0.125, doubleBondScaling=0.8, tripleBondScaling=0.6,
                                           colorscheme=scheme), sphere=dict(scale=0.23, colorscheme=scheme)),
                       viewer=cell)
        shown.zoomTo(viewer=cell)
    return shown
