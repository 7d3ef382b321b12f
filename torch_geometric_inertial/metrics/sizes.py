r"""How large molecules are, in heavy atoms."""
from __future__ import annotations

from collections.abc import Mapping

import torch

from torch_geometric_inertial.metrics.preflight import Screened


def size_histogram(molecules: Screened) -> dict[int, int]:
    r"""How many molecules have each number of heavy atoms, of those that are there and finished."""
    heavy = torch.cat([molecules.ptr.new_zeros(1), (molecules.z != 1).cumsum(0)])[molecules.ptr].diff().tolist()
    counts: dict[int, int] = {}
    for number, status in zip(heavy, molecules.status, strict=True):
        if status not in ('missing', 'unreadable', 'empty', 'unfinished'):
            counts[number] = counts.get(number, 0) + 1
    return dict(sorted(counts.items()))


def total_variation(a: Mapping[int, int], b: Mapping[int, int]) -> float | None:
    r"""Half the sum of :math:`|p_i - q_i|` between two histograms: 0 if they are alike, 1 if nothing is shared;
    :obj:`None` if one is empty."""
    na, nb = sum(a.values()), sum(b.values())
    if na == 0 or nb == 0:
        return None
    return 0.5 * sum(abs(a.get(i, 0) / na - b.get(i, 0) / nb) for i in a.keys() | b.keys())
