r"""Which edges of a molecule are its bonds.

Many data sets come with edges that are none: all pairs of atoms, or all pairs within a radius. RDKit takes whatever it
is given; a molecule of 60 atoms that are all bonded to each other costs it 20 s, one of 80 atoms a crash.
"""
import warnings

import torch
from torch import Tensor

from torch_geometric_inertial.chem.bonds import distance_bonds
from torch_geometric_inertial.data import check_edges
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS

#: A bond is shorter than this times the sum of the covalent radii; atoms bonded to the same atom are farther apart.
LONGEST = 1.6
#: No atom has more bonds; none of the second row more than six (in carboranes), no hydrogen more than two (in boranes).
MAX_NEIGHBORS = 16

_ORDERS = (1.0, 1.5, 2.0, 3.0, 4.0)


def edge_bonds(edges: Tensor, pos: Tensor, z: Tensor, ptr: Tensor, edge_attr: Tensor | None = None) -> Tensor:
    r"""The bonds of packed molecules: their edges, or, with a warning, bonds by distance in the molecules whose edges
    are none.

    Edges of a molecule are no bonds if an atom has more than it can (:data:`MAX_NEIGHBORS`); or if one is longer than
    :data:`LONGEST` times the sum of the covalent radii. Where they have bond orders, a long one may be a stretched
    bond, so there more than a quarter must be too long and a hydrogen or halogen have two neighbors or an atom of the
    second row more than four.

    Args:
        edges (Tensor): :obj:`edge_index` [2, E].
        pos (Tensor): Positions [T, 3] in Å.
        z (Tensor): Atomic numbers [T].
        ptr (Tensor): First atom of each molecule, and T: [B + 1].
        edge_attr (Tensor, optional): Bond orders, [E], [E, 1] or one-hot [E, 4] as in PyG's QM9, or something else.

    Returns:
        Tensor: Bonds [2, E'], in one direction or both.

    Raises:
        ValueError: If :obj:`edges` has another shape, or an edge leaves its molecule.
    """
    owner = check_edges(edges, ptr)
    if edges.numel() == 0:
        return edges
    u, v = edges.long()
    radius = COVALENT_RADII.to(pos.device)[z.long()]
    long = (pos[u] - pos[v]).norm(dim=1).double() > LONGEST * (radius[u] + radius[v])
    pairs = torch.unique(torch.minimum(u, v) * len(z) + torch.maximum(u, v))
    ends = torch.stack([pairs // len(z), pairs % len(z)])
    degree = torch.bincount(ends[:, ends[0] != ends[1]].flatten(), minlength=len(z))

    count = ptr.numel() - 1
    molecule = torch.repeat_interleave(ptr.diff()).to(degree.device)

    def anywhere(atoms: Tensor) -> Tensor:
        return torch.bincount(molecule[atoms], minlength=count) > 0

    num_long, num = torch.bincount(owner[long], minlength=count), torch.bincount(owner, minlength=count)
    if _are_orders(edge_attr, edges.size(1)):
        halogen = (z == 9) | (z == 17) | (z == 35) | (z == 53)
        crowded = ((degree > 1) & ((z == 1) | halogen)) | ((degree > 4) & (z >= 5) & (z <= 10))
        wrong = anywhere(crowded) & (4 * num_long > num)
    else:
        wrong = num_long > 0
    most = torch.where(z == 1, 2, torch.where((z >= 5) & (z <= 10), 6, MAX_NEIGHBORS)).to(degree.device)
    wrong |= anywhere(degree > most)
    if not bool(wrong.any()):
        return edges
    m = int(wrong.nonzero()[0])
    a, b = ptr[m:m + 2].tolist()
    atom = a + int((degree[a:b] / most[a:b]).argmax())
    warnings.warn(f"'edge_index' holds no bonds: {int(num_long[m])} of {int(num[m])} edges of molecule {m} are too "
                  f'long, and atom {atom - a}, {SYMBOLS[int(z[atom])]}, has {int(degree[atom])} neighbors. Bonds by '
                  f'distance take their place in {int(wrong.sum())} of {count} molecules', stacklevel=4)
    found = distance_bonds(pos, z, ptr).to(edges.device)
    return torch.cat([edges[:, ~wrong[owner]], found[:, wrong[molecule[found[0]]]]], dim=1)


def _are_orders(edge_attr: Tensor | None, size: int) -> bool:
    r"""Whether each edge has a bond order."""
    if not torch.is_tensor(edge_attr) or edge_attr.shape[:1] != (size,):
        return False
    if edge_attr.dim() == 2 and edge_attr.size(1) == 4:
        return bool(((edge_attr == 0) | (edge_attr == 1)).all() and (edge_attr.sum(1) == 1).all())
    return edge_attr.numel() == size and bool(torch.isin(edge_attr.double(), edge_attr.new_tensor(
        _ORDERS, dtype=torch.double)).all())
