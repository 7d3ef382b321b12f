r"""Why a molecule failed, in words, and which of its atoms are to blame."""
from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from torch_geometric_inertial.elements import COVALENT_RADII, MIN_DISTANCE, SYMBOLS, closed_valences
from torch_geometric_inertial.metrics.own_bonds import LONGEST, NEAREST_HEAVY, NEAREST_HYDROGENS, SHORTEST
from torch_geometric_inertial.metrics.protocol import STATUSES


class Graph(NamedTuple):
    r"""A molecule as it is drawn: ``z`` and ``charges`` per atom, ``pos`` (Å), ``bonds`` (u, v, order)."""
    z: list[int]
    pos: list[list[float]]
    bonds: list[tuple[int, int, int]]
    charges: list[int]


class Reason(NamedTuple):
    r"""A sentence, and the atoms that it is about."""
    text: str
    atoms: list[int]


def reason(graph: Graph, status: str) -> Reason:
    r"""What in a molecule brought it its status. Where nothing of the kind is found in the bonds that are drawn, it is
    what :data:`~torch_geometric_inertial.metrics.STATUSES` says of the status.

    Atoms are named by element and number, counted from 1 as in SDF.
    """
    found = _FINDERS[status](graph) if status in _FINDERS else Reason('', [])
    return found if found.text else Reason(STATUSES[status], [])


def hill_formula(z: Sequence[int]) -> str:
    r"""Carbon, hydrogen, the rest by name: ``C2H6O``."""
    symbols = [SYMBOLS[number] for number in z]
    first = ['C', 'H'] if 'C' in symbols else []
    order = [s for s in first if s in symbols] + sorted(set(symbols) - set(first))
    return ''.join(s + (str(symbols.count(s)) if symbols.count(s) > 1 else '') for s in order)


def _clash(graph: Graph) -> Reason:
    z, pos = torch.tensor(graph.z), torch.tensor(graph.pos, dtype=torch.float64)
    distance = torch.cdist(pos, pos)
    hydrogen = z == 1
    nearest = torch.where(hydrogen & hydrogen[:, None], NEAREST_HYDROGENS, MIN_DISTANCE)
    nearest = torch.where(~hydrogen & ~hydrogen[:, None], NEAREST_HEAVY, nearest).double()
    bonded = torch.zeros_like(distance, dtype=torch.bool)
    for u, v, _ in graph.bonds:
        nearest[u, v] = nearest[v, u] = SHORTEST * (COVALENT_RADII[z[u]] + COVALENT_RADII[z[v]])
        bonded[u, v] = True
    pairs = (distance < nearest).triu(1).nonzero().tolist()
    if not pairs:
        return Reason('', [])
    u, v = min(pairs, key=lambda pair: float(distance[tuple(pair)] / nearest[tuple(pair)]))
    how = 'bonded' if bonded[u, v] or bonded[v, u] else 'no bond between them'
    text = f'{_name(graph, u)} and {_name(graph, v)} are {float(distance[u, v]):.2f} Å apart ({how})'
    return Reason(text + _others(len(pairs)), sorted({atom for pair in pairs for atom in pair}))


def _valence(graph: Graph) -> Reason:
    total = [0] * len(graph.z)
    for u, v, order in graph.bonds:
        total[u] += order
        total[v] += order
    wrong: list[tuple[int, str]] = []
    for i, (number, charge) in enumerate(zip(graph.z, graph.charges, strict=True)):
        allowed = closed_valences(number, charge)
        if allowed and total[i] not in allowed:
            wrong.append((i, ' or '.join(map(str, allowed))))
    if not wrong:
        return Reason('', [])
    i, rule = wrong[0]
    text = f'{_name(graph, i)}, charge {graph.charges[i]:+d}, has valence {total[i]} instead of {rule}'
    return Reason(text.replace('+0', '0') + _others(len(wrong)), [atom for atom, _ in wrong])


def _pieces(graph: Graph) -> Reason:
    long = []
    parent = list(range(len(graph.z)))

    def root(i: int) -> int:
        while parent[i] != i:
            i = parent[i]
        return i

    for u, v, _ in graph.bonds:
        length = sum((a - b)**2 for a, b in zip(graph.pos[u], graph.pos[v], strict=True))**0.5
        if length > LONGEST * float(COVALENT_RADII[graph.z[u]] + COVALENT_RADII[graph.z[v]]):
            long.append((u, v, length))
        else:
            parent[root(u)] = root(v)
    pieces: dict[int, list[int]] = {}
    for i in range(len(graph.z)):
        pieces.setdefault(root(i), []).append(i)
    if long:
        u, v, length = long[0]
        return Reason(f'the bond of {_name(graph, u)} and {_name(graph, v)} is {length:.2f} Å long'
                      + _others(len(long)), sorted({atom for pair in long for atom in pair[:2]}))
    if len(pieces) < 2:
        return Reason('', [])
    ordered = sorted(pieces.values(), key=len, reverse=True)
    formulas = ' + '.join(hill_formula([graph.z[i] for i in piece]) for piece in ordered)
    return Reason(f'{len(pieces)} pieces: {formulas}', sorted(i for piece in ordered[1:] for i in piece))


def _name(graph: Graph, i: int) -> str:
    return f'{SYMBOLS[graph.z[i]]}{i + 1}'


def _others(count: int) -> str:
    return f', and {count - 1} more' if count > 1 else ''


_FINDERS = {'clash': _clash, 'valence': _valence, 'radical': _valence, 'disconnected': _pieces}
