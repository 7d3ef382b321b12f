r"""Bond lengths, angles and torsions of packed molecules as histograms by type, and how far two of them are apart."""
from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from torch_geometric_inertial.elements import SYMBOLS

Histogram = dict[int, int]
BONDS = {1: '-', 2: '=', 3: '#'}
#: Kind -> (width of a bin, unit). Torsions are folded to [0, 180], so that mirror images count as one.
WIDTHS = {'bond_lengths': (0.01, 'Å'), 'bond_angles': (1.0, '°'), 'torsions': (5.0, '°'), 'ring_sizes': (1.0, 'atoms')}
#: Where an angle is above this (°), as at a triple bond, there is no torsion.
STRAIGHT = 170.0
#: Types that the reference has less often are left out of the distances.
RARE = 100


def geometry_histograms(z: Tensor, pos: Tensor, ends: Tensor, order: Tensor) -> dict[str, dict[str, Histogram]]:
    r"""Counts bond lengths by elements and order, angles by elements, and torsions of heavy atoms by elements.

    Args:
        z: Atomic numbers [T].
        pos: Positions [T, 3] (Å).
        ends: Bonds [2, E], each once.
        order: Their orders [E].
    """
    a, b = ends[:, z[ends[0]] <= z[ends[1]]], ends.flip(0)[:, z[ends[0]] > z[ends[1]]]
    low = torch.cat([a, b], dim=1)
    orders = torch.cat([order[z[ends[0]] <= z[ends[1]]], order[z[ends[0]] > z[ends[1]]]])
    length = (pos[low[0]] - pos[low[1]]).norm(dim=1)
    lengths = _count(torch.stack([z[low[0]], orders, z[low[1]]]), length / WIDTHS['bond_lengths'][0],
                     lambda t: f'{SYMBOLS[t[0]]}{BONDS[t[1]]}{SYMBOLS[t[2]]}')

    directed = torch.cat([ends, ends.flip(0)], dim=1)
    directed = directed[:, torch.argsort(directed[0], stable=True)]
    start = torch.searchsorted(directed[0].contiguous(), torch.arange(z.numel() + 1))
    degree = start.diff()
    _, first, second = _within(directed[0], start)
    i, center, k = directed[1][first], directed[0][first], directed[1][second]
    angles = _count(_symmetric(z[i], z[center].unsqueeze(0), z[k]),
                    _angle(pos, i, center, k) / WIDTHS['bond_angles'][0], _elements)

    u, v = ends
    row = torch.repeat_interleave(torch.arange(u.numel()), degree[u] * degree[v])
    rank = torch.arange(row.numel()) - torch.repeat_interleave((degree[u] * degree[v]).cumsum(0) -
                                                               degree[u] * degree[v], degree[u] * degree[v])
    u, v = u[row], v[row]
    i = directed[1][start[u] + rank // degree[v].clamp(min=1)]
    k = directed[1][start[v] + rank % degree[v].clamp(min=1)]
    kept = (i != v) & (k != u) & (i != k) & (z[i] > 1) & (z[k] > 1)
    i, u, v, k = i[kept], u[kept], v[kept], k[kept]
    bent = (_angle(pos, i, u, v) < STRAIGHT) & (_angle(pos, u, v, k) < STRAIGHT)
    i, u, v, k = i[bent], u[bent], v[bent], k[bent]
    torsions = _count(_symmetric(z[i], torch.stack([z[u], z[v]]), z[k]),
                      _torsion(pos, i, u, v, k) / WIDTHS['torsions'][0], _elements)
    return {'bond_lengths': lengths, 'bond_angles': angles, 'torsions': torsions}


def distances(mine: Mapping[str, Histogram], reference: Mapping[str, Histogram],
              width: float) -> tuple[float | None, float | None, float | None]:
    r"""Jensen–Shannon divergence (base 2) and Wasserstein-1 distance of the histograms of each type, as means over the
    types of the reference that are not :data:`RARE`, weighted by how often the reference has them; and the total
    variation between how often types occur. A type that does not occur has divergence 1, and no distance.

    Args:
        mine: Type -> histogram.
        reference: Type -> histogram.
        width: Of a bin.

    Returns:
        :obj:`None` where nothing can be compared.
    """
    counts = {name: sum(bins.values()) for name, bins in reference.items()}
    own = {name: sum(bins.values()) for name, bins in mine.items()}
    common = [name for name, count in counts.items() if count >= RARE] or list(counts)
    total, there = sum(counts[name] for name in common), sum(counts[name] for name in common if own.get(name))
    if not total or not sum(own.values()):
        return None, None, None
    divergence = sum(counts[name] * (jensen_shannon(mine[name], reference[name]) if own.get(name) else 1.0)
                     for name in common) / total
    distance = sum(counts[name] * width * wasserstein(mine[name], reference[name])
                   for name in common if own.get(name)) / there if there else None
    types = 0.5 * sum(abs(own.get(name, 0) / sum(own.values()) - counts.get(name, 0) / sum(counts.values()))
                      for name in sorted(own.keys() | counts.keys()))
    return divergence, distance, types


def jensen_shannon(a: Histogram, b: Histogram) -> float:
    r"""Between two histograms that are not empty, base 2: 0 if they are alike, 1 if no bin is shared."""
    na, nb, total = sum(a.values()), sum(b.values()), 0.0
    for i in sorted(a.keys() | b.keys()):
        p, q = a.get(i, 0) / na, b.get(i, 0) / nb
        total += sum(0.5 * x * math.log2(2 * x / (p + q)) for x in (p, q) if x > 0)
    return max(0.0, total)


def wasserstein(a: Histogram, b: Histogram) -> float:
    r"""Between two histograms that are not empty, in bins: the area between their cumulative distributions."""
    na, nb, gap, area, last = sum(a.values()), sum(b.values()), 0.0, 0.0, None
    for i in sorted(a.keys() | b.keys()):
        area += 0.0 if last is None else abs(gap) * (i - last)
        gap += a.get(i, 0) / na - b.get(i, 0) / nb
        last = i
    return area


def _within(group: Tensor, start: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""All pairs of entries of a sorted vector that are equal: the value, and the two places."""
    place = torch.arange(group.numel())
    partners = start[group + 1] - place - 1
    first = torch.repeat_interleave(place, partners)
    second = torch.arange(first.numel()) - torch.repeat_interleave(partners.cumsum(0) - partners, partners) + first + 1
    return group[first], first, second


def _symmetric(i: Tensor, middle: Tensor, k: Tensor) -> Tensor:
    r"""A chain of elements read from the end that makes it smaller."""
    there, back = torch.cat([i[None], middle, k[None]]), torch.cat([k[None], middle.flip(0), i[None]])
    turn = _code(back) < _code(there)
    return torch.where(turn, back, there)


def _code(rows: Tensor) -> Tensor:
    code = torch.zeros_like(rows[0])
    for row in rows:
        code = code * 128 + row
    return code


def _count(types: Tensor, value: Tensor, title) -> dict[str, Histogram]:
    bins = value.nan_to_num(0.0).clamp(0, 1e6).round().long()  # planar angles stand in the middle of a bin
    found, count = torch.unique(torch.cat([types, bins[None]]), dim=1, return_counts=True)
    histograms: dict[str, Histogram] = {}
    for column, number in zip(found.t().tolist(), count.tolist(), strict=True):
        histograms.setdefault(title(column[:-1]), {})[column[-1]] = number
    return histograms


def _elements(types: list[int]) -> str:
    return '-'.join(SYMBOLS[number] for number in types)


def _angle(pos: Tensor, i: Tensor, center: Tensor, k: Tensor) -> Tensor:
    a, b = pos[i] - pos[center], pos[k] - pos[center]
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=1), (a * b).sum(1)).rad2deg()


def _torsion(pos: Tensor, i: Tensor, u: Tensor, v: Tensor, k: Tensor) -> Tensor:
    axis = pos[v] - pos[u]
    a, b = torch.linalg.cross(pos[u] - pos[i], axis), torch.linalg.cross(axis, pos[k] - pos[v])
    return torch.atan2(torch.linalg.cross(a, b).norm(dim=1), (a * b).sum(1)).rad2deg()
