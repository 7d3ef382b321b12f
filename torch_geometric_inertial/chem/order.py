r"""Canonical orders of the atoms of a molecule.

The graph decides first, and the coordinates decide between atoms that the graph does not tell apart. RDKit breaks such
ties by the order of its input; so the atoms are laid before it in an order that depends on the coordinates alone, and
its answer then depends on nothing but the molecule.
"""
from functools import cache

import torch
from torch import Tensor

from torch_geometric_inertial.chem.bonds import check_elements

ORDERS = ('smiles', 'heavy_first', 'rank')

#: Graph ties are settled along this direction. It is generic, so that atoms that mirror each other in a coordinate
#: plane or axis lie far apart along it, and no rounding of coordinates is needed.
TIE_DIRECTION = (0.7385, 0.5477, 0.3932)


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
            :obj:`"heavy_first"`: heavy atoms in that order, then the hydrogens, grouped by the atom that they are
            bonded to. :obj:`"rank"`: by RDKit's canonical atom rank.

    Returns:
        torch.Tensor: Packed indices :math:`[T]`: place :math:`i` is taken by atom :obj:`perm[i]`.

    Raises:
        ValueError: If :obj:`order` is unknown, an atomic number is not one, or a bond leaves its molecule.
    """
    if order not in ORDERS:
        raise ValueError(f"'order' must be one of {', '.join(map(repr, ORDERS))} (got {order!r})")
    check_elements(z)
    device, z, pos, ptr, bonds = z.device, z.cpu().long(), pos.detach().cpu().double(), ptr.cpu(), bonds.cpu()
    molecule = torch.repeat_interleave(torch.arange(ptr.numel() - 1), ptr.diff())
    if bonds.numel() > 0 and (int(bonds.min()) < 0 or int(bonds.max()) >= len(z)
                              or not torch.equal(molecule[bonds[0]], molecule[bonds[1]])):
        raise ValueError(f"'edge_index' must connect atoms of the same molecule, with indices below {len(z)} "
                         f'(got {int(bonds.min())} to {int(bonds.max())})')

    key = pos @ pos.new_tensor(TIE_DIRECTION)
    before = key.argsort(stable=True)
    before = before[molecule[before].argsort(stable=True)]  # packed atoms, by molecule, then along the direction
    place = torch.empty_like(before)
    place[before] = torch.arange(len(before))
    pairs = torch.unique(place[bonds].sort(dim=0).values, dim=1)  # each bond once, sorted
    pairs = pairs[:, pairs[0] != pairs[1]]
    pair_ptr = torch.searchsorted(pairs[0].contiguous(), ptr)
    pairs = (pairs - ptr[molecule[before[pairs[0]]]]).T.tolist()

    atoms, starts, pair_starts = z[before].tolist(), ptr.tolist(), pair_ptr.tolist()
    traverse = _rank_order if order == 'rank' else _smiles_order
    visits: list[int] = []
    for m in range(len(starts) - 1):
        a, b = starts[m], starts[m + 1]
        visits += [a + i for i in traverse(atoms[a:b], pairs[pair_starts[m]:pair_starts[m + 1]])]
    perm = before[torch.tensor(visits, dtype=torch.long)]
    if order == 'heavy_first':
        perm = perm[_hydrogens_last(z[perm], molecule, perm, bonds)]
    return perm.to(device)


def _hydrogens_last(z: Tensor, molecule: Tensor, perm: Tensor, bonds: Tensor) -> Tensor:
    r"""Sorts by (molecule, is hydrogen, place of the parent), all in the places of :obj:`perm`."""
    place = torch.empty_like(perm)
    place[perm] = torch.arange(len(perm))
    ends = torch.cat([place[bonds], place[bonds].flip(0)], 1)
    heavy, hydrogen = ends[:, (z[ends[0]] > 1) & (z[ends[1]] == 1)]
    parent = torch.full_like(perm, len(perm)).scatter_reduce_(0, hydrogen, heavy, 'amin')
    parent[z > 1] = -1
    row = parent.argsort(stable=True)
    return row[molecule[row].argsort(stable=True)]


def _smiles_order(z: list[int], pairs: list[list[int]]) -> list[int]:
    from rdkit import Chem

    mol = _skeleton(z, pairs)
    Chem.MolToSmiles(mol)
    return list(mol.GetPropsAsDict(True, True)['_smilesAtomOutputOrder'])


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
