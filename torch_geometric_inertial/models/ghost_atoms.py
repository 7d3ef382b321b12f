r"""Images of atoms as atoms of their own, with which a model that knows no periodicity sees a crystal or a surface."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.neighbors.periodic import periodic_neighbor_list, plane_spacings


class GhostAtoms(NamedTuple):
    r"""Atoms and ghosts, those of a system together and its atoms first.

    Attributes:
        origin (Tensor): The atom that each of them is an image of [M].
        shift (Tensor): By how many lattice vectors it is moved [M, 3], 0 for the atoms.
        own (Tensor): Where the atoms stand [N].
    """
    origin: Tensor
    shift: Tensor
    own: Tensor


@torch.no_grad()
def ghost_atoms(pos: Tensor, ptr: Tensor, batch: Tensor, cell: Tensor, pbc: Tensor, cutoff: float) -> GhostAtoms:
    r"""The images within a distance of an atom of their system.

    Args:
        pos: Positions [N, 3], Å. Which images of an atom are in the cell matters here.
        ptr: Offsets [B + 1] of the systems.
        batch: The system of each atom [N].
        cell: Lattice vectors as rows [B, 3, 3].
        pbc: Whether each is a period [B, 3], bool.
        cutoff: That distance.

    Raises:
        ValueError: If the cutoff exceeds half of the distance between lattice planes.
    """
    _, col, shift = periodic_neighbor_list(pos, ptr, cell, pbc, cutoff)
    lowest = float(plane_spacings(cell, pbc).amin())
    if cutoff > 0.5 * lowest:
        raise ValueError(f"'cutoff' must not exceed half of the cell, which is {lowest:.4g} Å across, where images are "
                         f"ghost atoms (got {cutoff} Å); periodic='exact' has no such limit")
    images = torch.cat([col.unsqueeze(1), shift], dim=1)[shift.any(1)].unique(dim=0)
    origin = torch.cat([torch.arange(pos.size(0), device=pos.device), images[:, 0]])
    order = batch[origin].argsort(stable=True)
    shift = torch.cat([images.new_zeros(pos.size(0), 3), images[:, 1:]])[order]
    return GhostAtoms(origin[order], shift, order.argsort()[:pos.size(0)])
