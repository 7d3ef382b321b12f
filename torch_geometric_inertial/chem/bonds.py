r"""Bonds from distances alone."""
import torch
from torch import Tensor

from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS

#: How much (Å) a bond may be longer than the sum of the covalent radii.
SLACK = 0.25
#: Two atoms closer than this (Å) are the same place, not a bond: the shortest bond there is, H–H, has 0.74 Å.
COINCIDENT = 0.4

_CHUNK = 1 << 22  # pairs in memory at a time


def distance_bonds(pos: Tensor, z: Tensor, ptr: Tensor, slack: float = SLACK) -> Tensor:
    r"""Returns the bonds of packed molecules by covalent radii: pairs with
    :math:`\lVert r_i - r_j \rVert < R_{z_i} + R_{z_j} + s`.

    Every pair is looked at once, so that the cost is bounded whatever the coordinates are.

    Args:
        pos (torch.Tensor): Positions :math:`[T, 3]` in Å.
        z (torch.Tensor): Atomic numbers :math:`[T]`.
        ptr (torch.Tensor): First atom of each molecule, and :math:`T`: :math:`[B + 1]`.
        slack (float): The slack :math:`s` in Å. On QM9, 0.25 finds the stored bonds in 999 of 1,000 molecules.

    Returns:
        torch.Tensor: Packed atom indices :math:`[2, E]`, each bond once with :math:`u < v`, sorted.

    Raises:
        ValueError: If two atoms of a molecule coincide, a position is not finite, or an atomic number is not one.
    """
    check_elements(z)
    if not bool(torch.isfinite(pos).all()):
        i = int((~torch.isfinite(pos).all(1)).nonzero()[0])
        raise ValueError(f"'pos' must be finite (got {pos[i].tolist()} at atom {i})")
    pos = pos.detach().double()
    radius = COVALENT_RADII.to(pos.device)[z.long()]
    ptr = ptr.to(pos.device)
    atom = torch.arange(len(pos), device=pos.device)
    later = torch.repeat_interleave(ptr[1:], ptr.diff()) - atom - 1  # atoms of the same molecule after this one
    bounds = [0]
    if len(pos) > 0:
        marks = torch.arange(0, int(later.sum()) + 1, _CHUNK, device=pos.device)
        bounds = [*torch.unique(torch.searchsorted(later.cumsum(0), marks)).tolist(), len(pos)]
        bounds[0] = 0
    found = [atom.new_empty(2, 0)]
    for lo, hi in zip(bounds[:-1], bounds[1:], strict=True):
        count = later[lo:hi]
        u = torch.repeat_interleave(atom[lo:hi], count)
        v = torch.arange(len(u), device=u.device) - torch.repeat_interleave(count.cumsum(0) - count, count) + u + 1
        distance = (pos[u] - pos[v]).norm(dim=1)
        if bool((distance < COINCIDENT).any()):
            k = int(distance.argmin())
            first = int(ptr[torch.searchsorted(ptr, u[k], right=True) - 1])
            i, j = int(u[k]), int(v[k])
            raise ValueError(f'two atoms must be at least {COINCIDENT} Å apart '
                             f'(got {float(distance[k]):.3g} Å between atom {i - first}, {SYMBOLS[int(z[i])]}, and '
                             f'atom {j - first}, {SYMBOLS[int(z[j])]})')
        bonded = distance < radius[u] + radius[v] + slack
        found.append(torch.stack([u[bonded], v[bonded]]))
    return torch.cat(found, 1)


def check_elements(z: Tensor) -> None:
    r"""Raises a :obj:`ValueError` where an atomic number is not one."""
    if z.is_floating_point():
        raise ValueError(f"'z' must hold whole numbers (got {z.dtype})")
    bad = ((z < 1) | (z >= len(SYMBOLS))).nonzero()
    if bad.numel() > 0:
        i = int(bad[0])
        raise ValueError(f"'z' must lie between 1 and {len(SYMBOLS) - 1} (got {int(z[i])} at atom {i})")
