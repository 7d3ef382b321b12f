r"""Bonds between two atoms along the shortest way, of whole graphs and while they are written."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FAR = 7  #: Bonds between two atoms are counted up to here.


def last_partner(order: Tensor) -> Tensor:
    r"""The last earlier atom that each is bonded to [B, M], of orders [B, M, M]; -1 where there is none."""
    slot = torch.arange(order.size(-1), device=order.device)
    return torch.where(order.tril(-1) > 0, slot, -1).amax(dim=-1) if order.size(-1) else order.new_zeros(
        order.shape[:-1])


def bond_distances(order: Tensor) -> Tensor:
    r"""Bonds between any two atoms along the shortest way [B, M, M], at most 7 (Floyd 1962, Warshall 1962)."""
    distance = torch.where(order > 0, 1, FAR)
    distance.diagonal(dim1=1, dim2=2).zero_()
    for k in range(order.size(1)):
        distance = torch.minimum(distance, distance[:, :, k:k + 1] + distance[:, k:k + 1])
    return distance.clamp(max=FAR)


def grow_distances(distance: Tensor, new: Tensor) -> tuple[Tensor, Tensor]:
    r"""Shortest ways after one more atom.

    Args:
        distance (Tensor): Bonds between the atoms so far [B, M, M]; 7 where there is no way, 0 on the diagonal.
        new (Tensor): Orders of the new atom's bonds to them [B, M]; 0 where there is none.

    Returns:
        tuple: Bonds from the new atom to the others [B, M], and between the others [B, M, M]: a ring shortens ways.
    """
    step = torch.where(new > 0, 1, FAR)
    row = (step.unsqueeze(2) + distance).amin(dim=1).clamp(max=FAR)
    return row, torch.minimum(distance, row.unsqueeze(2) + row.unsqueeze(1))


class PrefixDistances(NamedTuple):
    r"""Shortest ways while a graph is written.

    Attributes:
        own (Tensor): From atom s to each atom j <= s after its bonds are written [B, M, M].
        parent (Tensor): From the parent of atom s to each atom j < s, before they are [B, M, M].
    """
    own: Tensor
    parent: Tensor


def prefix_distances(order: Tensor) -> PrefixDistances:
    r"""Of all beginnings of graphs with these orders [B, M, M], atom by atom."""
    batch_size, num, _ = order.shape
    row = torch.arange(batch_size, device=order.device)
    parent = last_partner(order).clamp(min=0)
    distance = order.new_full((batch_size, num, num), FAR)
    distance.diagonal(dim1=1, dim2=2).zero_()
    own, from_parent = torch.full_like(distance, FAR), torch.full_like(distance, FAR)
    for s in range(num):
        from_parent[:, s, :s] = distance[row, parent[:, s], :s]
        if s > 0:
            to_new, grown = grow_distances(distance[:, :s, :s], order[:, s, :s])
            distance[:, :s, :s], distance[:, s, :s], distance[:, :s, s] = grown, to_new, to_new
        own[:, s, :s + 1] = distance[:, s, :s + 1]
    return PrefixDistances(own, from_parent)
