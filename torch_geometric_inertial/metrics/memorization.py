r"""Generated molecules that are copies of training molecules, atom on atom."""
from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.chem.equivalent import MAX_ORDERS, best_order, match_orders
from torch_geometric_inertial.chem.plain import Plain, plain_mol
from torch_geometric_inertial.metrics.evaluate import default_protocol, judge
from torch_geometric_inertial.metrics.figure import Figure, fraction
from torch_geometric_inertial.metrics.inputs import as_items
from torch_geometric_inertial.metrics.preflight import Molecules
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.superpose import kabsch_rotations, superposed_rmsd

#: Orders of the heavy atoms that hydrogens are added to, the nearest first.
MAX_TRIED = 50


@dataclass(frozen=True)
class Memorization:
    r"""How much of what was generated stands in the training set.

    Args:
        known: Share of the valid molecules whose SMILES the training set has.
        copied: Share of the valid molecules that lie on a training molecule.
        nearest: The training molecule of the same SMILES that is nearest to each molecule; :obj:`None` without one.
        rmsd: Its distance (Å), over all atoms; infinite without one.
        protocol: That the SMILES were found by.
    """
    known: Figure
    copied: Figure
    nearest: tuple[int | None, ...]
    rmsd: tuple[float, ...]
    protocol: str

    def __str__(self) -> str:
        return f'known by SMILES  {self.known}\ncopied in 3D     {self.copied}\n(SMILES by {self.protocol})'


def memorization(molecules: Molecules, training: Molecules, threshold: float = 0.1, protocol: str | None = None,
                 workers: int | None = None) -> Memorization:
    r"""Looks for copies of training molecules: the same SMILES, and an RMSD below a threshold after superposition by a
    proper motion, under the best of the orders of the atoms that the graph does not tell apart.

    Molecules are sorted by SMILES first, so that the cost is that of the SMILES, and of one superposition for each pair
    that shares one.

    Args:
        molecules: What was generated; :obj:`None` for a failed one.
        training: The training set.
        threshold: RMSD of all atoms (Å).
        protocol: Whose SMILES are compared. By default ``'bonds'`` where all molecules of both sets have bonds, and
            ``'edm-qm9'`` elsewhere.
        workers: Processes for the SMILES.

    Raises:
        ValueError: As :func:`evaluate`, or if :obj:`threshold` is not positive.
    """
    if not threshold > 0:
        raise ValueError(f"'threshold' must be positive (got {threshold})")
    items, others = as_items(molecules), as_items(training, 'training')
    rules = get_protocol(protocol or default_protocol([*items, *others]))
    report = judge(items, rules, workers=workers)
    holders: dict[str, list[int]] = defaultdict(list)
    wanted = {smiles for smiles in report.smiles if smiles is not None}
    for j, smiles in enumerate(judge(others, rules, workers=workers).smiles):
        if smiles in wanted:
            holders[smiles].append(j)
    nearest: list[int | None] = [None] * len(items)
    rmsd = [math.inf] * len(items)
    for i, smiles in enumerate(report.smiles):
        for j in holders.get(smiles, []) if smiles is not None else []:
            distance = copy_rmsd(items[i], others[j], threshold)
            if nearest[i] is None or distance < rmsd[i]:
                nearest[i], rmsd[i] = j, distance
    valid = sum(smiles is not None for smiles in report.smiles)
    known = fraction(sum(j is not None for j in nearest), valid, 'valid')
    return Memorization(known, fraction(sum(x < threshold for x in rmsd), valid, 'valid'), tuple(nearest), tuple(rmsd),
                        rules.key)


def copy_rmsd(data: Data, other: Data, threshold: float = math.inf) -> float:
    r"""The RMSD (Å) of all atoms of two molecules under the best motion and the best order of equivalent atoms;
    infinite if their graphs, which distances tell, differ, or heavy atoms alone show that it is above the threshold.

    Where the graph has more than :data:`MAX_ORDERS` symmetries, heavy atoms are laid on each other first and hydrogens
    then take the nearest places: right for copies, and an upper bound for molecules that are far apart.
    """
    if data.z.sort().values.tolist() != other.z.sort().values.tolist():
        return math.inf
    heavy = [(one.z > 1).nonzero().squeeze(1) for one in (data, other)]
    size, count = data.z.numel(), len(heavy[0])
    orders, places = _orders(data, other, *heavy)
    if len(orders) == 0:
        return math.inf
    ptr = count * torch.arange(len(orders) + 1)
    rmsd = superposed_rmsd(places[0][orders].reshape(-1, 3), places[1].repeat(len(orders), 1), ptr)
    if count and float(rmsd.min()) * math.sqrt(count) > threshold * math.sqrt(size):
        return math.inf  # the squares of the heavy atoms are no more than those of all
    every = torch.arange(size)
    full, positions = _orders(data, other, every, every)
    if len(full) == 0:
        return math.inf
    if len(full) < MAX_ORDERS:
        best = best_order(positions[0], positions[1], full)
        return _rmsd(positions[0][best], positions[1])
    return min(_with_hydrogens(data, other, heavy, orders[i]) for i in rmsd.argsort()[:MAX_TRIED].tolist())


def _orders(data: Data, other: Data, kept: Tensor, others: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    r"""Orders of the kept atoms of the first that make it the graph of the second, and the positions of both."""
    graphs, places = [], []
    for one, atoms in ((data, kept), (other, others)):
        z, pos = one.z[atoms].cpu(), one.pos[atoms].detach().cpu().double()
        bonds = distance_bonds(pos, z, torch.tensor([0, len(z)])).t().tolist() if len(z) else []
        graphs.append(plain_mol(Plain(z.tolist(), None, bonds, [1] * len(bonds))))
        places.append(pos)
    return match_orders(graphs[1], graphs[0]), (places[0], places[1])


def _with_hydrogens(data: Data, other: Data, heavy: list[Tensor], order: Tensor) -> float:
    r"""The RMSD when hydrogens take the nearest places, after heavy atoms were laid on each other in an order."""
    from scipy.optimize import linear_sum_assignment

    hydrogens = [(one.z == 1).nonzero().squeeze(1) for one in (data, other)]
    target = torch.cat([other.pos[heavy[1]], other.pos[hydrogens[1]]]).double()
    x = torch.cat([data.pos[heavy[0][order]], data.pos[hydrogens[0]]]).double()
    count = len(order)
    for _ in range(3):
        turn = kabsch_rotations(x[:count], target[:count], torch.tensor([0, count]))[0]
        moved = (x - x[:count].mean(0)) @ turn.T + target[:count].mean(0)
        _, column = linear_sum_assignment(torch.cdist(target[count:], moved[count:]).square().numpy())
        x = torch.cat([x[:count], x[count:][torch.from_numpy(column)]])
        count = len(x)  # next time all atoms are superposed
    return _rmsd(x, target)


def _rmsd(pos: Tensor, target: Tensor) -> float:
    return float(superposed_rmsd(pos, target, torch.tensor([0, len(pos)])))
