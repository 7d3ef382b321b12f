r"""Bond orders and formal charges from geometry, of molecules whose hydrogens may be missing, as in X-ray structures.

Covalent radii tell which atoms are bonded. An atom's *state* is its formal charge :math:`q`, the sum of its orders
less the number of its bonds, and the number of its hydrogens, which together make up a valence of its element. Chosen
are the states :math:`s` and orders :math:`k` with the least

.. math::
    \sum_i \big[ -\log p(s_i) - \log p(\theta_i \mid s_i) \big] + \sum_{(i, j)} \big[ -\log p(d_{ij} \mid s_i, s_j,
    k_{ij}) - \log p(\tau_{ij} \mid s_i, s_j, k_{ij}) \big] + c \, \big| \textstyle\sum_i q_i \big|

among those in which the orders at each atom add up to what its state says, with the shape :math:`\theta` at an atom
(angle, or height over its neighbors), the length :math:`d` and the torsion :math:`\tau` of a bond, and the statistics
of :mod:`~torch_geometric_inertial.chem.bond_statistics`. So rings come out in a Kekulé form or not at all.

The minimum is exact. Atoms are decided one after the other along the graph; what is still to be decided depends on
nothing but the decided atoms that have undecided neighbors, a few even in large molecules, and the total charge. A
best-first search over these, with the sum of the best that each undecided atom could have as its bound, ends at the
minimum.
"""
import copy
from heapq import heappop, heappush
from typing import NamedTuple

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_statistics import (
    VALENCES,
    BondStatistics,
    State,
    bond_statistics,
    states_of,
    twist_class,
)
from torch_geometric_inertial.chem.fields import charges_of, check_molecule, has_orders
from torch_geometric_inertial.chem.skeleton import Skeleton, skeleton_of
from torch_geometric_inertial.elements import SYMBOLS

HYDROGENS = ('all', 'missing')
NET_CHARGE = 4.0  #: The cost :math:`c` (nats) of a unit of total charge.
MAX_STEPS = 100_000  #: Steps of the search; drug molecules need hundreds.


class Assignment(NamedTuple):
    r"""The states of a skeleton's atoms, the orders of its bonds, and their cost (nats)."""
    states: list[State]
    orders: list[int]
    cost: float


class _Step(NamedTuple):
    r"""The decision about one atom: its number, its bonds to earlier atoms as (bond, place of the other atom among the
    open atoms before the step), and which of these, itself the last, stay open and which do not."""
    atom: int
    bonds: list[tuple[int, int]]
    stay: list[int]
    close: list[int]
    open_atoms: list[int]


def with_bonds(data: Data, *, hydrogens: str = 'all', charge: int | None = None) -> Data:
    r"""A molecule with the bonds that its geometry tells, even if its hydrogens are missing.

    Data that have ``edge_index`` and ``edge_attr`` are returned as they are.

    Args:
        data: With ``z`` [N], ``pos`` [N, 3] in Å and, where they are known, ``formal_charge`` [N], which are kept.
        hydrogens: ``'all'``: the hydrogens of the data are all there are; ``'missing'``: each atom may have more than
            the data show, as many as its valence has room for.
        charge: The total charge of the atoms with the hydrogens that are missing; :obj:`None`: what is likeliest.

    Returns:
        Data: The same with ``edge_index`` [2, E] (both directions, sorted), ``edge_attr`` [E] (orders 1, 2, 3; int64),
        ``formal_charge`` [N] (int64) and ``num_radical_electrons`` [N], all zero, by which
        :func:`~torch_geometric_inertial.chem.to_mol` knows that open valences are hydrogens.

    Raises:
        ValueError: If the molecule is malformed, atoms coincide, an element's valences are not known, an atom has more
            neighbors than its element can have, no orders without radicals fit the atoms (and the charges), or their
            search does not end in bounded time.
    """
    if hydrogens not in HYDROGENS:
        raise ValueError(f"'hydrogens' must be one of {HYDROGENS} (got {hydrogens!r})")
    if charge is not None and (isinstance(charge, bool) or not isinstance(charge, int)):
        raise ValueError(f"'charge' must be a whole number or None (got {charge!r})")
    if has_orders(data):
        return data
    z, pos = check_molecule(data)
    known = ((z == 1) | torch.isin(z, torch.tensor(list(VALENCES)))).tolist()
    if not all(known):
        atom = known.index(False)
        raise ValueError("'data' must hold elements whose valences are known, H, "
                         f"{', '.join(SYMBOLS[k] for k in VALENCES)} (got {SYMBOLS[int(z[atom])]} at atom {atom})")
    skeleton, charges = skeleton_of(z, pos), charges_of(data)
    if hydrogens == 'all' and (lone := _lone_hydrogen(z.tolist(), skeleton)) is not None:
        raise ValueError("'data' must have a neighbor for each hydrogen with hydrogens='all' "
                         f'(got none at atom {lone})')
    candidates = [_states(skeleton, i, hydrogens == 'all', charges) for i in range(len(skeleton.atom))]
    found = assign(skeleton, candidates, bond_statistics(), charge)
    if found is None:
        rule = 'orders of its bonds without radicals' + ('' if charge is None else f" and with 'charge' = {charge}")
        raise ValueError(f"'data' must have {rule} (got none that fit its {len(skeleton.atom)} heavy atoms with "
                         f'hydrogens={hydrogens!r})')
    return _result(data, z, skeleton, found, charges)


def _lone_hydrogen(z: list[int], skeleton: Skeleton) -> int | None:
    bonded = {i for pair in skeleton.bearers for i in pair}
    return next((i for i, number in enumerate(z) if number == 1 and i not in bonded), None)


def _states(skeleton: Skeleton, i: int, exact: bool, charges: list[int] | None) -> list[State]:
    r"""The states that a heavy atom may have."""
    z, degree, bears, atom = skeleton.z[i], skeleton.degree[i], skeleton.hydrogens[i], skeleton.atom[i]
    states = [state for state in states_of(z, degree)
              if (state.hydrogens == bears if exact else state.hydrogens >= bears)
              and (charges is None or state.charge == charges[atom])]
    if not states:
        where = f'{SYMBOLS[z]} with {degree} heavy neighbors and {bears} hydrogens at atom {atom}'
        stated = '' if charges is None else f", of 'formal_charge' {charges[atom]}"
        raise ValueError(f"'data' must have valences that the elements can have without radicals (got {where}{stated})")
    return states


def _result(data: Data, z: torch.Tensor, skeleton: Skeleton, found: Assignment, charges: list[int] | None) -> Data:
    atom, device = skeleton.atom, data.pos.device
    bonds = [(atom[u], atom[v], k) for (u, v, _, _), k in zip(skeleton.bonds, found.orders, strict=True)]
    bonds += [(u, v, 1) for u, v in skeleton.bearers]
    edges = torch.tensor(sorted(bonds + [(v, u, k) for u, v, k in bonds]), dtype=torch.long).reshape(-1, 3).t()
    charge = torch.tensor(charges) if charges is not None else torch.zeros_like(z)
    charge[atom] = torch.tensor([state.charge for state in found.states], dtype=torch.long)
    out = copy.copy(data)
    out.edge_index, out.edge_attr = edges[:2].contiguous().to(device), edges[2].contiguous().to(device)
    out.formal_charge, out.num_radical_electrons = charge.to(device), torch.zeros_like(z, device=device)
    return out


def assign(skeleton: Skeleton, candidates: list[list[State]], statistics: BondStatistics,
           charge: int | None = None) -> Assignment | None:
    r"""The cheapest states, one of each atom's candidates, and orders; :obj:`None` if none fit together.

    Raises:
        ValueError: After :data:`MAX_STEPS`.
    """
    steps = _steps(skeleton)
    costs = [_atom_costs(skeleton, i, states, statistics) for i, states in enumerate(candidates)]
    tables: list[list] = [[] for _ in skeleton.bonds]
    bound = [0.0]  # of what is undecided before each step, the last step first
    for step in reversed(steps):
        least = list(costs[step.atom])
        for bond, place in step.bonds:
            tables[bond] = _bond_costs(skeleton, bond, candidates[step.atom], candidates[step.open_atoms[place]],
                                       statistics)
            for n, row in enumerate(tables[bond]):
                least[n] += min(min(cell) for cell in row)
        bound.append(bound[-1] + min(least))
    bound.reverse()
    # (bound, −steps done, number for ties, total charge, (candidate, π left) of the open atoms, decisions)
    heap: list[tuple] = [(bound[0], 0, 0, 0, (), None)]
    done: set[tuple] = set()
    pushed = 0
    while heap:
        least, minus, _, net, front, past = heappop(heap)
        t = -minus
        if t == len(steps):
            return _decisions(past, steps, candidates, least)
        if (t, net, front) in done:
            continue
        done.add((t, net, front))
        if len(done) > MAX_STEPS:
            raise ValueError(f"'data' must have bonds whose orders can be found in {MAX_STEPS} steps (got "
                             f'{len(steps)} heavy atoms whose orders depend on each other)')
        step = steps[t]
        for n, state in enumerate(candidates[step.atom]):
            total = net + state.charge
            ways: list[tuple] = [(least - bound[t] + costs[step.atom][n], state.pi, front, ())]
            for bond, place in step.bonds:
                row = tables[bond][n]
                ways = [(cost + row[front[place][0]][k], left - k, _less(held, place, k), (*orders, k + 1))
                        for cost, left, held, orders in ways for k in range(min(left, held[place][1], 2) + 1)]
            for cost, left, held, orders in ways:
                whole = (*held, (n, left))
                if any(whole[place][1] for place in step.close):
                    continue
                if t + 1 == len(steps):
                    if charge is not None and total != charge:
                        continue
                    cost += NET_CHARGE * abs(total) if charge is None else 0.0
                after = tuple([whole[place] for place in step.stay])
                if (t + 1, total, after) not in done:
                    pushed += 1
                    heappush(heap, (cost + bound[t + 1], -t - 1, pushed, total, after, (past, n, orders)))
    return None


def _less(held: tuple, place: int, k: int) -> tuple:
    if k == 0:
        return held
    candidate, left = held[place]
    return (*held[:place], (candidate, left - k), *held[place + 1:])


def _atom_costs(skeleton: Skeleton, i: int, states: list[State], statistics: BondStatistics) -> list[float]:
    value, ring = skeleton.shape[i]
    costs = [statistics.state(state) for state in states]
    if value is not None:
        shapes = [statistics.shape(state, ring) for state in states]
        costs = [cost if shape is None else cost + shape.cost(value) for cost, shape in zip(costs, shapes, strict=True)]
    return costs


def _bond_costs(skeleton: Skeleton, bond: int, rows: list[State], columns: list[State],
                statistics: BondStatistics) -> list[list[list[float]]]:
    r"""The cost of each state of one end (row), of the other (column) and of each order that both allow."""
    _, _, length, ring = skeleton.bonds[bond]
    twist = skeleton.twist[bond]
    slot = None if twist is None else twist_class(twist)
    return [[[statistics.length(a, b, order, ring).cost(length)
              + (0.0 if slot is None else statistics.twist(a, b, order, ring)[slot])
              for order in range(1, min(a.pi, b.pi, 2) + 2)] for b in columns] for a in rows]


def _steps(skeleton: Skeleton) -> list[_Step]:
    r"""The order in which atoms are decided: along the bonds, first where it closes most atoms and opens fewest."""
    near: list[list[tuple[int, int]]] = [[] for _ in skeleton.atom]
    for bond, (u, v, _, _) in enumerate(skeleton.bonds):
        near[u].append((bond, v))
        near[v].append((bond, u))
    undecided = list(skeleton.degree)  # neighbors of each atom
    rest, border, decided, steps = set(range(len(near))), set[int](), set[int](), []
    open_atoms: list[int] = []

    def opened(i: int) -> tuple[int, int, int]:
        closes = sum(j in decided and undecided[j] == 1 for _, j in near[i])
        return (undecided[i] > 0) - closes, undecided[i], i

    while rest:
        atom = min(border, key=opened) if border else min(rest, key=lambda i: (undecided[i], i))
        rest.remove(atom)
        border.discard(atom)
        decided.add(atom)
        for _, j in near[atom]:
            undecided[j] -= 1
        border.update(j for _, j in near[atom] if j in rest)
        whole = [*open_atoms, atom]
        stay = [place for place, j in enumerate(whole) if undecided[j] > 0]
        steps.append(_Step(atom, [(bond, open_atoms.index(j)) for bond, j in near[atom] if j in decided], stay,
                           [place for place, j in enumerate(whole) if undecided[j] == 0], open_atoms))
        open_atoms = [whole[place] for place in stay]
    return steps


def _decisions(past: tuple | None, steps: list[_Step], candidates: list[list[State]], cost: float) -> Assignment:
    states: dict[int, State] = {}
    orders: dict[int, int] = {}
    for step in reversed(steps):
        assert past is not None
        past, n, found = past
        states[step.atom] = candidates[step.atom][n]
        orders.update(zip((bond for bond, _ in step.bonds), found, strict=True))
    return Assignment([states[i] for i in range(len(states))], [orders[bond] for bond in range(len(orders))], cost)
