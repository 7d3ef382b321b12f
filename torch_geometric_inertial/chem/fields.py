r"""The fields of a molecule, checked: atoms and places, bonds and their orders, charges."""
from collections.abc import Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import table_bonds
from torch_geometric_inertial.chem.graph import AROMATIC, build_mol, kekule_bonds
from torch_geometric_inertial.data import check_edge_index
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS

FLOAT_MAX = float(torch.finfo(torch.float32).max)
#: What whole numbers the fields of atoms hold, the limits of molfiles: charges, unpaired electrons, mass numbers (0:
#: natural). RDKit stores them in one or two bytes, and takes 255 charges for -1 without a word.
ATOM_FIELDS = {'formal_charge': (-15, 15), 'num_radical_electrons': (0, 15), 'isotope': (0, 999)}
MAX_NEIGHBORS = 16  #: No atom has as many bonds; edges that reach it are something else.


def check_molecule(data: Data, what: str = 'data') -> tuple[Tensor, Tensor]:
    r"""The molecule's ``z`` [N] (int64) and ``pos`` [N, 3] (float64), on the CPU.

    Raises:
        ValueError: If something is missing, misshapen, empty, not finite or no element.
    """
    z, pos = data.get('z'), data.get('pos')
    if z is None or pos is None:
        raise ValueError(f"{what} needs atomic numbers 'z' and positions 'pos' (got {data})")
    if z.dim() != 1 or pos.shape != (z.numel(), 3):
        raise ValueError(f"{what} needs 'z' [N] and 'pos' [N, 3] (got {list(z.shape)} and {list(pos.shape)})")
    if z.numel() == 0:
        raise ValueError(f'{what} has no atoms')
    if z.is_floating_point() or z.is_complex() or z.dtype == torch.bool:
        raise ValueError(f"{what} needs whole numbers in 'z' (got {z.dtype})")
    z, pos = z.detach().cpu().long(), pos.detach().cpu().double()
    if not pos.isfinite().all():
        atom = int((~pos.isfinite().all(-1)).nonzero()[0])
        raise ValueError(f"{what} has a position that is not finite, at atom {atom}: {pos[atom].tolist()}")
    if int(z.min()) < 1 or int(z.max()) >= len(SYMBOLS):
        atom = int(((z < 1) | (z >= len(SYMBOLS))).nonzero()[0])
        rule = f"'z' must be in 1..{len(SYMBOLS) - 1}"
        raise ValueError(f'{what} has no element at atom {atom}: {rule} (got {int(z[atom])})')
    return z, pos


def both_directions(bonds: Sequence[tuple[int, int, int]]) -> Tensor:
    r"""Edges [3, 2E] (u, v, order), sorted, of bonds one direction each."""
    directed = sorted([(u, v, k) for u, v, k in bonds] + [(v, u, k) for u, v, k in bonds])
    return torch.from_numpy(np.fromiter(chain.from_iterable(zip(*directed, strict=True)), np.int64).reshape(3, -1))


def graph_data(atoms: Sequence[tuple[int, ...]], pos: Tensor, edges: Tensor) -> Data:
    r"""A molecule from its atoms (z, formal charge, radical electrons, isotope), positions [N, 3] and edges
    [3, 2E]."""
    z, charge, radicals, isotope = torch.from_numpy(
        np.fromiter(chain.from_iterable(zip(*atoms, strict=True)), np.int64).reshape(4, -1))
    return Data(z=z, pos=pos, edge_index=edges[:2], edge_attr=edges[2], formal_charge=charge,
                num_radical_electrons=radicals, isotope=isotope, charge=charge.sum(0, keepdim=True))


def has_orders(data: Data) -> bool:
    r"""Whether the molecule has bonds and their orders."""
    return data.get('edge_index') is not None and data.get('edge_attr') is not None


def find_bonds(data: Data, perception: str | None = None, what: str = 'data') -> tuple[list[tuple[int, int]], list]:
    r"""Bonds and orders of a checked molecule by ``'data'`` or ``'edm'``; by default as :func:`to_mol` chooses."""
    if perception == 'data' or (perception is None and has_orders(data)):
        return bonds_of(data, what)
    found = table_bonds(data.z.cpu().long(), data.pos.detach().cpu().double(), torch.tensor([0, data.z.numel()]))
    return found.ends.t().tolist(), found.order.tolist()


def bonds_of(data: Data, what: str = 'data') -> tuple[list[tuple[int, int]], list[int]]:
    r"""Each bond of ``data.edge_index`` once, with its Kekulé order from ``data.edge_attr``; see :func:`to_mol`.

    Raises:
        ValueError: If there are none, they leave the molecule or contradict each other, aromatic bonds have no Kekulé
            form, an atom has more than 16, or edges without orders are longer than bonds.
    """
    if data.edge_index is None:
        raise ValueError(f"{what} needs bonds in 'edge_index' (got {data})")
    check_edge_index(data.edge_index, what)
    order = _orders(data, what)
    size = data.z.numel()
    bonds: dict[tuple[int, int], int] = {}
    for u, v, k in zip(*data.edge_index.tolist(), order, strict=True):
        if u == v or not (0 <= u < size and 0 <= v < size):
            raise ValueError(f"{what} has a bond between atoms {u} and {v} of {size}")
        if bonds.setdefault((min(u, v), max(u, v)), k) != k:
            raise ValueError(f"{what} has two orders for the bond between atoms {u} and {v} in 'edge_attr'")
    pairs, orders = list(bonds), list(bonds.values())
    _check_bonds(data, pairs, what)
    if AROMATIC in orders:
        orders = _kekulized(data, pairs, orders, what)
    return pairs, orders


def _orders(data: Data, what: str) -> list[int]:
    order, size = data.edge_attr, data.edge_index.size(1)
    if order is None:
        return [1] * size
    rule = (f"{what} needs bond orders 1, 2, 3 (or 1.5, aromatic) in 'edge_attr' [E] or [E, 1], or one-hot [E, 4], for "
            f"{size} edges")
    if order.dim() == 2 and order.size(1) == 1:
        order = order.squeeze(1)
    elif order.dim() == 2 and order.size(1) == 4 and torch.equal(order.sort(1).values.long(), order.new_tensor(
            [0, 0, 0, 1]).long().expand_as(order)):
        order = order.argmax(dim=1) + 1
    if order.shape != (size, ):
        raise ValueError(f'{rule} (got {list(order.shape)})')
    order = torch.where(order == 1.5, AROMATIC, order)
    if not bool(torch.isin(order, order.new_tensor([1, 2, 3, AROMATIC])).all()):
        raise ValueError(f'{rule} (got {sorted(set(order.tolist()))[:8]})')
    return [int(k) for k in order.tolist()]


def _check_bonds(data: Data, pairs: list[tuple[int, int]], what: str) -> None:
    if not pairs:
        return
    ends = torch.tensor(pairs).t()
    most = int(torch.bincount(ends.flatten()).max())
    if most > MAX_NEIGHBORS:
        raise ValueError(f"{what} must have bonds in 'edge_index', at most {MAX_NEIGHBORS} at an atom (got {most})")
    if data.edge_attr is None and data.get('pos') is not None:
        pos, radius = data.pos.detach().cpu().double(), COVALENT_RADII[data.z.cpu().long()]
        excess = (pos[ends[0]] - pos[ends[1]]).norm(dim=1) / (radius[ends[0]] + radius[ends[1]])
        if float(excess.max()) > 1.6:
            u, v = ends[:, int(excess.argmax())].tolist()
            a, b = (SYMBOLS[int(data.z[i])] for i in (u, v))
            raise ValueError(f"{what} must have bonds in 'edge_index' (got an edge of "
                             f"{float((pos[u] - pos[v]).norm()):.2f} Å between atoms {u}, {a}, and {v}, {b}, "
                             "without orders in 'edge_attr')")


def _kekulized(data: Data, pairs: list[tuple[int, int]], orders: list[int], what: str) -> list[int]:
    mol = build_mol(data.z.tolist(), pairs, orders, charges=charges_of(data))
    return [int(order) for _, _, order in kekule_bonds(mol, what)]


def charges_of(data: Data) -> list[int] | None:
    r"""The formal charges ``data.formal_charge`` [N], where there are any."""
    return atom_field(data, 'formal_charge')


def atom_field(data: Data, name: str) -> list[int] | None:
    r"""One of :data:`ATOM_FIELDS`, or :obj:`None` where the molecule lacks it.

    Raises:
        ValueError: If it is not [N], or not whole numbers within its limits.
    """
    value, (low, high) = data.get(name), ATOM_FIELDS[name]
    if value is None:
        return None
    rule = f"'{name}' must be whole numbers [N] from {low} to {high}, N = {data.z.numel()}"
    if not isinstance(value, Tensor) or value.shape != data.z.shape or value.is_complex():
        got = list(value.shape) if isinstance(value, Tensor) and not value.is_complex() else type(value).__name__
        raise ValueError(f'{rule} (got {got})')
    if value.dtype == torch.bool:
        value = value.long()
    wrong = ~((value >= low) & (value <= high)) | (value != value.trunc())
    if bool(wrong.any()):
        atom = int(wrong.nonzero()[0])
        raise ValueError(f'{rule} (got {value[atom].item()} at atom {atom})')
    return [int(x) for x in value.tolist()]
