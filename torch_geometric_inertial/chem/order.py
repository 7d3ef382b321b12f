r"""Canonical orders of the atoms of a molecule.

The graph decides first, and the coordinates decide between atoms that the graph does not tell apart. RDKit breaks such
ties by the order of its input; so the atoms are laid before it in an order that depends on the coordinates alone, and
its answer then depends on nothing but the molecule. Equal end atoms of one atom, such as the hydrogens of a methyl
group, are then set in order around their bond, a local and therefore steadier choice than one by coordinates.
"""
import math
from functools import cache

import torch
from torch import Tensor

from torch_geometric_inertial.chem.bonds import check_elements

ORDERS = ('smiles', 'heavy_first', 'rank')

#: Graph ties are settled along this direction. It is generic, so that atoms that mirror each other in a coordinate
#: plane or axis lie far apart along it, and no rounding of coordinates is needed.
TIE_DIRECTION = (0.7385, 0.5477, 0.3932)

_CUT = 0.5  # rad; turns are counted from here, halfway between a staggered and an eclipsed end atom
_OFF_AXIS = 0.3  # Å; an atom nearer to the axis has no turn


def canonical_order(z: Tensor, pos: Tensor, ptr: Tensor, bonds: Tensor, order: str = 'smiles') -> Tensor:
    r"""Returns the canonical order of the atoms of packed molecules.

    The graph is elements and connectivity: bond orders, charges and stereo marks are left aside, so that bonds from a
    file and bonds from distances give the same order.

    Args:
        z (torch.Tensor): Atomic numbers :math:`[T]`.
        pos (torch.Tensor): Positions :math:`[T, 3]` in Å in a canonical frame.
        ptr (torch.Tensor): First atom of each molecule, and :math:`T`: :math:`[B + 1]`.
        bonds (torch.Tensor): Packed atom indices :math:`[2, E]`, in one direction or both.
        order (str): :obj:`"smiles"`: as RDKit's canonical SMILES with explicit hydrogens visits the atoms, so that each
            atom after the first is bonded to an earlier one in a connected molecule.
            :obj:`"heavy_first"`: heavy atoms as the canonical SMILES of the heavy atoms alone visits them, so that
            their order tells nothing of the hydrogens; then these, grouped by the atom that they are bonded to.
            :obj:`"rank"`: by RDKit's canonical atom rank.

    Returns:
        torch.Tensor: Packed indices :math:`[T]`: place :math:`i` is taken by atom :obj:`perm[i]`.

    Raises:
        ValueError: If :obj:`order` is unknown, an atomic number is not one, or a bond leaves its molecule.
    """
    if order not in ORDERS:
        raise ValueError(f"'order' must be one of {', '.join(map(repr, ORDERS))} (got {order!r})")
    check_elements(z)
    device, z, pos, ptr, bonds = z.device, z.cpu().long(), pos.detach().cpu().double(), ptr.cpu(), bonds.cpu().long()
    molecule = torch.repeat_interleave(torch.arange(ptr.numel() - 1), ptr.diff())
    if bonds.numel() > 0 and (int(bonds.min()) < 0 or int(bonds.max()) >= len(z)
                              or not torch.equal(molecule[bonds[0]], molecule[bonds[1]])):
        raise ValueError(f"'edge_index' must connect atoms of the same molecule, with indices below {len(z)} "
                         f'(got {int(bonds.min())} to {int(bonds.max())})')

    key = pos @ pos.new_tensor(TIE_DIRECTION)
    before = key.argsort(stable=True)
    before = before[molecule[before].argsort(stable=True)]  # packed atoms, by molecule, then along the direction
    pairs = torch.unique(_inverse(before)[bonds].sort(dim=0).values, dim=1)  # each bond once, sorted
    pairs = pairs[:, pairs[0] != pairs[1]]
    pair_starts = torch.searchsorted(pairs[0].contiguous(), ptr).tolist()
    local = (pairs - ptr[molecule[pairs[0]]]).T.tolist()

    atoms, starts = z[before].tolist(), ptr.tolist()
    traverse = dict(smiles=_smiles_order, heavy_first=_heavy_first_order, rank=_rank_order)[order]
    visits: list[int] = []
    for m in range(len(starts) - 1):
        a, b = starts[m], starts[m + 1]
        visits += [a + i for i in traverse(atoms[a:b], local[pair_starts[m]:pair_starts[m + 1]])]
    visit = torch.tensor(visits, dtype=torch.long)
    ends = _inverse(visit)[pairs]
    perm = before[visit]
    if order != 'heavy_first':
        return perm[_around_bonds(z[perm], pos[perm], ends)].to(device)
    heavy = z[perm] > 1
    turned = _around_bonds(z[perm], pos[perm], ends[:, heavy[ends].all(0)])  # as if there were no hydrogens
    perm, ends = perm[turned], _inverse(turned)[ends]
    turned = _around_bonds(z[perm], pos[perm], ends, z[perm] == 1)
    perm, ends = perm[turned], _inverse(turned)[ends]
    return perm[_hydrogens_last(z[perm], molecule, ends)].to(device)


def _inverse(perm: Tensor) -> Tensor:
    return torch.empty_like(perm).index_copy_(0, perm, torch.arange(len(perm)))


def _around_bonds(z: Tensor, pos: Tensor, ends: Tensor, movable: Tensor | None = None) -> Tensor:
    r"""Sets the equal end atoms of each atom :math:`P` in order of their turn about the bond :math:`A{-}P`, counted
    from a reference atom :math:`R`: the first other neighbor of :math:`P`, or else of :math:`A`. Swapping equal end
    atoms of one atom leaves the graph as it is, so the order stays that of the same SMILES.

    Args: elements and positions by place, the bonds :math:`[2, E]` between places, and which atoms may move (all, if
    not given). Returns a permutation [T].
    """
    size = len(z)
    ends = torch.cat([ends, ends.flip(0)], 1)
    ends = ends[:, (ends[0] * size + ends[1]).argsort()]
    degree = torch.bincount(ends[0], minlength=size)
    is_leaf = degree == 1 if movable is None else (degree == 1) & movable
    parent, leaf = ends[:, is_leaf[ends[1]]]
    _, group, members = torch.unique(parent * 256 + z[leaf], return_inverse=True, return_counts=True)
    several = members[group] > 1
    parent, leaf = parent[several], leaf[several]
    if leaf.numel() == 0:
        return torch.arange(size)
    _, group = torch.unique(group[several], return_inverse=True)
    order = (group * size + leaf).argsort()
    parent, leaf, group = parent[order], leaf[order], group[order]

    # Only atoms outside such groups can be A or R: the others are told apart here first.
    firm = torch.ones(size, dtype=torch.bool).index_fill_(0, leaf, False)
    far, near = ends[:, firm[ends[1]]]
    start = torch.searchsorted(far.contiguous(), torch.arange(size + 1))

    def first_neighbor(node: Tensor, but: Tensor) -> Tensor:
        r"""The first firm neighbor of each node other than :obj:`but`; -1 where there is none."""
        known = node.clamp(min=0)
        at = start[known]
        at = at + ((at < start[known + 1]) & (near[at.clamp(max=len(near) - 1)] == but)).long()
        found = near[at.clamp(max=len(near) - 1)]
        return torch.where((node >= 0) & (at < start[known + 1]), found, -1)

    if near.numel() == 0:
        return torch.arange(size)
    a = first_neighbor(parent, torch.full_like(parent, -1))
    r = first_neighbor(parent, a)
    r = torch.where(r >= 0, r, first_neighbor(a, parent))
    axis = torch.nn.functional.normalize(pos[parent] - pos[a], dim=1)

    def off_axis(v: Tensor) -> Tensor:
        return v - (v * axis).sum(1, keepdim=True) * axis

    x = off_axis(pos[r] - pos[parent])
    y = torch.linalg.cross(axis, x)
    v = off_axis(pos[leaf] - pos[parent])
    turn = (torch.atan2((v * y).sum(1), (v * x).sum(1)) - _CUT) % (2 * math.pi)
    unclear = (a < 0) | (r < 0) | (x.norm(dim=1) < _OFF_AXIS) | (v.norm(dim=1) < _OFF_AXIS)
    unclear = torch.zeros(int(group[-1]) + 1, dtype=torch.bool).index_put_((group[unclear],), torch.tensor(True))[group]
    turn = torch.where(unclear, 0.0, turn)
    by_turn = turn.argsort(stable=True)
    by_turn = by_turn[group[by_turn].argsort(stable=True)]
    out = torch.arange(size)
    out[leaf] = leaf[by_turn]
    return out


def _hydrogens_last(z: Tensor, molecule: Tensor, ends: Tensor) -> Tensor:
    r"""Sorts by (molecule, is hydrogen, place of the first heavy neighbor, place)."""
    ends = torch.cat([ends, ends.flip(0)], 1)
    heavy, hydrogen = ends[:, (z[ends[0]] > 1) & (z[ends[1]] == 1)]
    parent = torch.full_like(z, len(z)).scatter_reduce_(0, hydrogen, heavy, 'amin')
    parent[z > 1] = -1
    row = parent.argsort(stable=True)
    return row[molecule[row].argsort(stable=True)]


def _smiles_order(z: list[int], pairs: list[list[int]]) -> list[int]:
    from rdkit import Chem

    mol = _skeleton(z, pairs)
    Chem.MolToSmiles(mol)
    return list(mol.GetPropsAsDict(True, True)['_smilesAtomOutputOrder'])


def _heavy_first_order(z: list[int], pairs: list[list[int]]) -> list[int]:
    heavy = [i for i, number in enumerate(z) if number > 1]
    place = {atom: i for i, atom in enumerate(heavy)}
    between = [[place[u], place[v]] for u, v in pairs if u in place and v in place]
    visited = [heavy[i] for i in _smiles_order([z[i] for i in heavy], between)] if heavy else []
    return visited + [i for i, number in enumerate(z) if number == 1]


def _rank_order(z: list[int], pairs: list[list[int]]) -> list[int]:
    from rdkit import Chem

    mol = _skeleton(z, pairs)
    mol.UpdatePropertyCache(strict=False)
    rank = Chem.CanonicalRankAtoms(mol, breakTies=True)
    return sorted(range(len(z)), key=rank.__getitem__)


def _skeleton(z: list[int], pairs: list[list[int]]):
    r"""The molecule with single bonds only, unsanitised."""
    from rdkit import Chem

    mol, single = Chem.RWMol(), Chem.BondType.SINGLE
    for number in z:
        mol.AddAtom(_atom(number))
    for u, v in pairs:
        mol.AddBond(u, v, single)
    return mol


@cache
def _atom(number: int):
    from rdkit import Chem

    atom = Chem.Atom(number)
    atom.SetNoImplicit(True)
    return atom
