r"""Do molecules have the functional groups that were asked for?"""
import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.functional_groups import check_vocabulary, find_groups, get_vocabulary
from torch_geometric_inertial.data import molecules_of
from torch_geometric_inertial.metrics.evaluate import evaluate
from torch_geometric_inertial.metrics.intervals import wilson_interval
from torch_geometric_inertial.metrics.preflight import Molecules
from torch_geometric_inertial.metrics.report import Report

#: Statuses of the report in which a molecule may yet have groups.
JUDGED_AGAIN = ('ok', 'valence', 'radical')


@dataclass(frozen=True)
class HitRate:
    r"""How often molecules have the groups that were asked for. All are fractions of the molecules *requested*: one
    that failed has no group.

    Args:
        report: Stability, validity, V×U, … of the molecules.
        perception: How bonds were found.
        hit_rate: Molecules with every group that was asked for.
        exact_rate: Of these, those with no other group of the vocabulary: the pattern of the paper's class token.
        no_molecule: Molecules in which no neutral, connected molecule was found; all of them are misses.
        asked: How many molecules were to have each group.
        hits: How many of those do.
        intervals: 95 % confidence intervals (Wilson) of :obj:`hit_rate`, :obj:`exact_rate` and each group's rate.
    """
    report: Report
    perception: str
    hit_rate: float
    exact_rate: float
    no_molecule: float
    asked: dict[str, int]
    hits: dict[str, int]
    intervals: dict[str, tuple[float, float]]

    @property
    def rates(self) -> dict[str, float]:
        r"""The hit rate of each group that was asked for."""
        return {name: self.hits[name] / asked for name, asked in self.asked.items() if asked > 0}

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    def __str__(self) -> str:
        rows = [('all requested groups', self.hit_rate, self.report.num_requested, 'hit_rate'),
                ('and no other', self.exact_rate, self.report.num_requested, 'exact_rate')]
        rows += [(name, rate, self.asked[name], name) for name, rate in self.rates.items()]
        lines = [f'{"":20} {"hit %":>6}  95 % interval    asked']
        for title, rate, asked, key in rows:
            low, high = self.intervals[key]
            lines.append(f'{title:20} {100 * rate:6.2f}  {100 * low:6.2f} – {100 * high:6.2f}  {asked:6}')
        return '\n'.join([*lines, f'no molecule: {100 * self.no_molecule:.2f} % (bonds by {self.perception})',
                          str(self.report)])


def hit_rate(
    molecules: Molecules,
    groups: Tensor,
    vocabulary: str | Mapping[str, str] = 'qm9',
    protocol: str = 'edm-qm9',
    perception: str = 'rdkit-vdw',
    reference: Molecules | frozenset[str] | set[str] | None = None,
) -> HitRate:
    r"""Judges molecules by the groups that were asked for.

    Bonds are always found anew from the positions, also of real molecules, so that figures compare: in
    5.5 % of the molecules of QM9 itself RDKit finds no neutral molecule, and so 94.5 % is the most to be had.

    Args:
        molecules: One a request, with ``z`` [N] and ``pos`` [N, 3] (Å); :obj:`None` for a failed one.
        groups: What was asked for, 0/1, [B, G] or [G] for all.
        vocabulary: The groups: see :class:`~torch_geometric_inertial.FunctionalGroups`.
        protocol: Of the report: see :func:`evaluate`.
        perception: How bonds are found: see :func:`~torch_geometric_inertial.chem.to_mol`.
        reference: Known molecules, for the report's novelty.

    Raises:
        ValueError: If :obj:`groups` has another shape than these, is not 0/1 or asks for nothing, or as
            :func:`evaluate`.
    """
    items = molecules_of(molecules) if isinstance(molecules, Data) else list(molecules)
    patterns = get_vocabulary(vocabulary)
    check_vocabulary(patterns)
    shape = (len(items), len(patterns))
    if groups.shape not in (shape, shape[1:]):
        raise ValueError(f"'groups' must be [{shape[1]}] or [{shape[0]}, {shape[1]}] (got {tuple(groups.shape)})")
    requested = groups.detach().cpu().expand(shape)
    if not bool(((requested == 0) | (requested == 1)).all()):
        raise ValueError(f"'groups' must be 0 or 1 (got {requested[(requested != 0) & (requested != 1)][0]})")
    requested = requested.bool()
    if not bool(requested.any()):
        raise ValueError("'groups' must ask for at least one group (got none)")
    report = evaluate(items, protocol, reference)
    found = torch.zeros(shape, dtype=torch.bool)
    sound = torch.zeros(len(items), dtype=torch.bool)
    for i, (data, status) in enumerate(zip(items, report.status, strict=True)):
        if data is None or status not in JUDGED_AGAIN:  # EDM's tables may refuse what RDKit accepts
            continue
        try:
            found[i] = torch.tensor(find_groups(Data(z=data.z, pos=data.pos), patterns, perception))
            sound[i] = True
        except ValueError:
            continue
    hit = (found | ~requested).all(dim=1) & sound
    exact = (found == requested).all(dim=1) & sound
    asked = dict(zip(patterns, requested.sum(0).tolist(), strict=True))
    hits = dict(zip(patterns, (found & requested).sum(0).tolist(), strict=True))
    counts = {'hit_rate': (int(hit.sum()), len(items)), 'exact_rate': (int(exact.sum()), len(items))}
    counts |= {name: (hits[name], asked[name]) for name in patterns if asked[name] > 0}
    return HitRate(
        report=report,
        perception=perception,
        hit_rate=counts['hit_rate'][0] / len(items),
        exact_rate=counts['exact_rate'][0] / len(items),
        no_molecule=1 - float(sound.double().mean()),
        asked=asked,
        hits=hits,
        intervals={name: ends for name, count in counts.items() if (ends := wilson_interval(*count)) is not None},
    )
