r"""Orders of atoms that are drawn anew for each training batch."""
from __future__ import annotations

import copy

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.data import ptr_of
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.permute import permute_atoms

SHARPNESS, NEAREST, FADE = 10.0, 0.8, 0.9  #: Per Å; share of the nearest atom; weight of an atom a step older.
JUMP = 0.15  #: Probability that a walk goes on elsewhere.


def random_orders(ptr: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""A uniform permutation of each molecule's atoms, as packed indices [T]; :obj:`ptr` [B + 1]."""
    molecule = torch.repeat_interleave(ptr.diff())
    shuffled = torch.rand(molecule.numel(), generator=generator, device=ptr.device).argsort()
    return shuffled[molecule[shuffled].argsort(stable=True)]


def traverse_orders(pos: Tensor, ptr: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""A random walk over each molecule's atoms that prefers near ones (Quetzal, :obj:`traverse`).

    The first atom is drawn evenly, each further one from :math:`\mathrm{softmax}(-10\, d_j)` with
    :math:`d_j = 0.8 \min_i |x_j - x_i| + 0.2\, \overline{|x_j - x_i|}` in Å over the atoms :math:`i` drawn before;
    in the mean an atom counts 0.9 times as much as the one drawn after it.

    Args:
        pos (Tensor): Positions [T, 3] in Å.
        ptr (Tensor): Offsets [B + 1].
        generator (torch.Generator, optional): Source of the draws.

    Returns:
        Tensor: Packed indices [T].
    """
    atoms = Packing(ptr)
    dense, left = atoms.pad(pos), atoms.mask()
    rows = torch.arange(left.size(0), device=pos.device)
    nearest, total, weight = torch.full_like(dense[..., 0], torch.inf), torch.zeros_like(dense[..., 0]), 0.0
    logits, order = torch.zeros_like(nearest), []
    for _ in range(left.size(1)):
        uniform = torch.rand(left.shape, generator=generator, device=pos.device).clamp(min=1e-30)
        draw = (logits - (-uniform.log()).log()).masked_fill(~left, -torch.inf).argmax(dim=1)  # Gumbel's trick
        order.append(draw)
        left = left.index_put((rows, draw), left.new_tensor(False))
        distance = (dense - dense[rows, draw].unsqueeze(1)).norm(dim=-1)
        nearest = torch.minimum(nearest, distance)
        total, weight = FADE * total + distance, FADE * weight + 1
        logits = -SHARPNESS * (NEAREST * nearest + (1 - NEAREST) * total / weight)
    return atoms.unpad(torch.stack(order, dim=1)) + ptr[atoms.batch]


def walk_orders(z: Tensor, edge_index: Tensor, ptr: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""A random walk along the bonds of each molecule's heavy atoms, then the hydrogens, by the atoms that bear them.

    The walk begins at any heavy atom and goes depth first, as SMILES do; each step goes on at any other atom next to
    those visited with probability 0.15. So every order in which a molecule can grow out of a part of it has its share.

    Args:
        z (Tensor): Atomic numbers [T].
        edge_index (Tensor): Bonds, in both directions [2, E].
        ptr (Tensor): Offsets [B + 1].
        generator (torch.Generator, optional): Source of the draws.

    Returns:
        Tensor: Packed indices [T].
    """
    atoms = Packing(ptr)
    batch_size, num = atoms.size
    rows = torch.arange(batch_size, device=z.device)
    bonded = torch.zeros(batch_size, num, num, device=z.device)
    u, v = edge_index
    bonded[atoms.batch[u], atoms.slot[u], atoms.slot[v]] = 1
    left = atoms.pad(z) > 1
    time = torch.zeros(batch_size, num, device=z.device)  # of the visit, from 1; 0 before it
    for t in range(1, num + 1):
        latest = (bonded * time.unsqueeze(2)).amax(dim=1)  # visit next to which an atom stands, 0 if next to none
        jump = torch.rand(batch_size, 1, generator=generator, device=z.device) < JUMP
        latest = torch.where(jump, latest.clamp(max=1), latest)
        uniform = torch.rand(batch_size, num, generator=generator, device=z.device)
        draw = (latest + uniform).masked_fill(~left, -1).argmax(dim=1)
        time[rows, draw] = torch.where(left[rows, draw], t, time[rows, draw])
        left[rows, draw] = False
        if not bool(left.any()):
            break
    host = (bonded * time.unsqueeze(2)).amax(dim=1)
    key = torch.where(time > 0, time, num + host)
    return (atoms.batch * (2 * num + 2) + atoms.unpad(key)).argsort(stable=True)


class RandomOrder:
    r"""Draws the order of the atoms of some molecules of a batch; the others stay as they are.

    A transform of a molecule or a batch that leaves its input as it was: fields of atoms follow, edges are renumbered
    (:func:`~torch_geometric_inertial.permute.permute_atoms`). Without a :obj:`generator` it draws from PyTorch's own
    stream, which a :class:`~torch.utils.data.DataLoader` seeds anew for each worker and epoch.

    Args:
        order (str): :obj:`'random'` (:func:`random_orders`), :obj:`'traverse'` (:func:`traverse_orders`) or, of
            molecules with bonds, :obj:`'walk'` (:func:`walk_orders`), where :obj:`walked` [B] tells a model that writes
            bonds which molecules are in an order that was drawn.
        probability (float): Of a molecule to have its order drawn. (default: :obj:`2 / 3`)

    Raises:
        ValueError: If there is no such order, :obj:`probability` is none, or a molecule has no bonds to walk along.
    """
    def __init__(self, order: str, probability: float = 2 / 3):
        if order not in ('random', 'traverse', 'walk'):
            raise ValueError(f"'order' must be 'random', 'traverse' or 'walk' (got '{order}')")
        if not 0 <= probability <= 1:
            raise ValueError(f"'probability' must be in [0, 1] (got {probability})")
        self.order, self.probability = order, probability

    def __call__(self, data: Data, generator: torch.Generator | None = None) -> Data:
        data, ptr = copy.copy(data), ptr_of(data)
        drawn = torch.rand(ptr.numel() - 1, generator=generator, device=ptr.device) < self.probability
        if self.order == 'walk':
            if data.get('edge_index') is None:
                raise ValueError(f"order 'walk' needs bonds in 'edge_index' (got {data})")
            perm, data.walked = walk_orders(data.z, data.edge_index, ptr, generator), drawn
        elif self.order == 'traverse':
            perm = traverse_orders(data.pos, ptr, generator)
        else:
            perm = random_orders(ptr, generator)
        kept = torch.arange(perm.numel(), device=perm.device)
        perm = torch.where(drawn[torch.repeat_interleave(ptr.diff())], perm, kept)
        return permute_atoms(data, perm, ptr, warn=False)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(order='{self.order}', probability={self.probability:.3g})"
