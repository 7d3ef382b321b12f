r"""Molecules as the pages draw them: in their inertial frames, with the bonds that they bring."""
from __future__ import annotations

from typing import Any

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import charges_of, check_molecule, find_bonds, has_orders
from torch_geometric_inertial.chem.properties import properties_of, title_of
from torch_geometric_inertial.chem.scene import color_of
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS
from torch_geometric_inertial.frames import inertial_frames
from torch_geometric_inertial.report.reasons import Graph, hill_formula

MAX_PROPERTIES = 12  #: More are left out.


def graph_of(data: Data) -> Graph:
    r"""Atoms in the inertial frame of the molecule, with its own bonds, or those of the EDM distance tables where it
    brings none.

    Raises:
        ValueError: If it cannot be drawn.
    """
    z, pos = check_molecule(data)
    pairs, orders = find_bonds(data)
    frame = inertial_frames(pos, z, torch.tensor([0, z.numel()]))
    turned = (pos - frame.center) @ frame.axes[0]
    bonds = [(u, v, int(order)) for (u, v), order in zip(pairs, orders, strict=True)]
    return Graph(z.tolist(), turned.tolist(), bonds, charges_of(data) or [0] * z.numel())


def scene_of(graph: Graph) -> dict[str, Any]:
    r"""A molecule as the pages' scripts read it."""
    return dict(
        elem=[SYMBOLS[number] for number in graph.z],
        pos=[[round(x, 3) for x in row] for row in graph.pos],
        bonds=graph.bonds,
        charges={i: charge for i, charge in enumerate(graph.charges) if charge},
        formula=hill_formula(graph.z),
    )


def facts_of(data: Data) -> dict[str, Any]:
    r"""What stands beside the picture: title, properties, and where the bonds come from."""
    try:
        properties = properties_of(data)
    except ValueError:
        properties = {}
    shown = {name: f'{value:.6g}' if isinstance(value, float) else str(value)[:200]
             for name, value in list(properties.items())[:MAX_PROPERTIES]}
    return dict(title=title_of(data), properties=shown, own_bonds=has_orders(data))


def palette() -> dict[str, dict[str, Any]]:
    r"""Color and covalent radius (Å) of each element."""
    return {symbol: dict(color=color_of(z), radius=round(float(COVALENT_RADII[z]), 2))
            for z, symbol in enumerate(SYMBOLS)}
