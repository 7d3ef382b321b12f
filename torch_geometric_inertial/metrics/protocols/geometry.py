r"""Distributions of bond lengths, angles, torsions and ring sizes."""
from __future__ import annotations

import torch

from torch_geometric_inertial.chem.verdicts import ring_sizes
from torch_geometric_inertial.metrics.figure import Figure, fraction
from torch_geometric_inertial.metrics.histograms import WIDTHS, distances, geometry_histograms
from torch_geometric_inertial.metrics.own_bonds import own_bonds
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.processes import Failure, run_anywhere
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, judged_total
from torch_geometric_inertial.metrics.report import Distributions


class Geometry(Protocol):
    r"""Distributions over all molecules that bring bonds, whatever their valences, against those of a reference.

    * ``clash_free``: no two hydrogens without a bond nearer than 1.3 Å, no two other atoms nearer than 1.7 Å.
    * ``…_js``: Jensen–Shannon divergence; ``…_wasserstein``: Wasserstein-1 distance; ``…_types``: total variation
      between how often types of bonds, angles, torsions occur. See :func:`histograms.distances`. The reference column
      has the distances between two halves of the reference: what can be reached.
    """
    name = 'geometry'
    version = 1
    needs_bonds = True

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        own = own_bonds(molecules)
        start = molecules.ptr.tolist()
        chosen = [(start[i], one) for i, one in enumerate(own.plain) if one is not None]
        ends = torch.tensor([(first + u, first + v) for first, one in chosen for u, v in one.bonds], dtype=torch.long)
        order = torch.tensor([k for _, one in chosen for k in one.orders], dtype=torch.long)
        found: Distributions = geometry_histograms(molecules.z, molecules.pos, ends.reshape(-1, 2).t(), order)
        rings: dict[int, int] = {}
        for sizes in run_anywhere(ring_sizes, [(one, ) for _, one in chosen], workers):
            for size in [] if isinstance(sizes, Failure) else sizes:
                rings[size] = rings.get(size, 0) + 1
        found['ring_sizes'] = {'ring': dict(sorted(rings.items()))} if rings else {}
        total = judged_total(own.status)
        figures = {'ok': fraction(own.status.count('ok'), total),
                   'clash_free': fraction(sum(name in ('ok', 'disconnected') for name in own.status), total)}
        return Judged(own.status, [None] * len(own.status), figures, {}, found)

    def compare(self, distributions: Distributions, reference: Distributions) -> dict[str, Figure]:
        figures = {}
        for kind, (width, unit) in WIDTHS.items():
            divergence, distance, types = distances(distributions.get(kind, {}), reference.get(kind, {}), width)
            figures[f'{kind}_js'] = Figure(divergence, kind, 'bit', protocol=self.key)
            figures[f'{kind}_wasserstein'] = Figure(distance, kind, unit, protocol=self.key)
            if kind != 'ring_sizes':
                figures[f'{kind}_types'] = Figure(types, kind, 'TV', protocol=self.key)
        return figures


PROTOCOL = Geometry()
