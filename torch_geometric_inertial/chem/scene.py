"""What must be drawn of a molecule: atoms turned to their best side, bonds, colors."""
from __future__ import annotations

import math

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import Bonds, allowed_valences, valences
from torch_geometric_inertial.chem.fields import charges_of, check_molecule, find_bonds, has_orders
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS, closed_valences

COLORS = {
    'H': '#f4f6f8', 'B': '#f2a58b', 'C': '#555d68', 'N': '#3f6fe0', 'O': '#e5382f', 'F': '#5fcf6f', 'Si': '#d9b99b',
    'P': '#f2872e', 'S': '#f3c72c', 'Cl': '#33b34a', 'Br': '#a04330', 'I': '#8a3fb0', 'X': '#e07ac0',
}
STICK = '#b9c0c9'
#: Order of a bond -> radius of its sticks and how far they are from its axis (Å).
STICKS = {1: (0.115, 0.0), 2: (0.078, 0.135), 3: (0.056, 0.155)}


def scene_or_none(data: Data | None) -> Scene | None:
    r"""What must be drawn of a molecule, or :obj:`None` where it cannot be drawn."""
    try:
        return None if data is None else Scene(data)
    except ValueError:
        return None


def color_of(number: int) -> str:
    r"""The color of an element."""
    return COLORS.get(SYMBOLS[number], COLORS['X'])


class Scene:
    """A molecule turned to its best side, and what must be drawn of it."""
    def __init__(self, data: Data):
        z, pos = check_molecule(data)
        pairs, orders = find_bonds(data)
        bonds = Bonds(torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t(), torch.tensor(orders, dtype=torch.long))
        self.numbers = z.tolist()
        self.pos = turned(pos.numpy())
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

    def sticks(self) -> list[tuple[np.ndarray, np.ndarray, float, int, int]]:
        r"""Start, end and radius (Å) of each stick, and the atoms that it joins: one, two or three for a bond, beside
        each other in the plane of the picture, so that none hides another."""
        found = []
        for u, v, order in self.bonds:
            thickness, spread = STICKS[order]
            along = self.pos[v] - self.pos[u]
            aside = np.array([-along[1], along[0], 0.0])
            aside = aside / np.linalg.norm(aside) if np.linalg.norm(aside) > 1e-6 else np.array([1.0, 0.0, 0.0])
            for step in {1: (0,), 2: (-1, 1), 3: (-1, 0, 1)}[order]:
                shift = aside * spread * step
                found.append((self.pos[u] + shift, self.pos[v] + shift, thickness, u, v))
        return found


def turned(pos: np.ndarray) -> np.ndarray:
    r"""Principal axes along x, y and the line of sight, then a little aside, so that depth shows."""
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
