r"""From molecules with bonds to what a model with bonds reads, and every reason why it cannot."""
from __future__ import annotations

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.data import ptr_of
from torch_geometric_inertial.elements import COVALENT_RADII, SYMBOLS
from torch_geometric_inertial.nn.atom_vocabulary import AtomType, AtomVocabulary
from torch_geometric_inertial.nn.bond_distances import last_partner
from torch_geometric_inertial.nn.packing import Packing
from torch_geometric_inertial.nn.skeleton import BondGraph, Skeleton

LONGEST_BOND = 1.6  #: Two bonded atoms are within this multiple of the sum of their covalent radii.
ORDER = "transforms.CanonicalOrder(order='heavy_first') puts atoms in order"


def read_molecules(data: Data, vocabulary: AtomVocabulary, max_atoms: int,
                   max_closures: int) -> tuple[Skeleton, Tensor]:
    r"""Molecules in canonical order with their bonds.

    Args:
        data (Data or Batch): :obj:`z` [T], :obj:`pos` [T, 3] (Å), :obj:`edge_index` [2, E] (both directions),
            :obj:`edge_attr` [E] or [E, 1] (bond orders 1, 2, 3), :obj:`formal_charge` [T] (0 if it is not there), and
            :obj:`ptr` if there are several.
        vocabulary (AtomVocabulary): The types of heavy atoms.
        max_atoms (int): Longest molecule.
        max_closures (int): Rings that one atom may close.

    Returns:
        tuple: The :class:`Skeleton` and the positions [B, N, 3], the first atom of each molecule at 0.

    Raises:
        ValueError: With the molecule, the atom, the rule and what came.
    """
    for name in ('z', 'pos', 'edge_index', 'edge_attr'):
        if data.get(name) is None:
            raise ValueError(f"a model with bonds needs '{name}' in its input (got {data})"
                             + ('; chem.with_bonds finds bonds from distances' if name.startswith('edge') else ''))
    z, pos, ptr = data.z, data.pos, ptr_of(data)
    if z.dim() != 1 or pos.shape != (z.numel(), 3) or z.is_floating_point():
        raise ValueError(f"'z' must be whole numbers [N] and 'pos' [N, 3] (got {tuple(z.shape)} of {z.dtype} and "
                         f"{tuple(pos.shape)})")
    if not z.device == pos.device == vocabulary.z.device:
        raise ValueError(f"'z' and 'pos' must be on the model's device, {vocabulary.z.device} "
                         f"(got {z.device} and {pos.device})")
    atoms = Packing(ptr)

    def refuse(where: Tensor, what: str) -> None:
        if bool(where.any()):
            t = int(where.nonzero()[0])
            b = int(atoms.batch[t])
            raise ValueError(f'{what} (molecule {b}, atom {t - int(ptr[b])}, {SYMBOLS[int(z[t])]})')

    if bool((atoms.length < 1).any()):
        raise ValueError(f'molecule {int((atoms.length < 1).nonzero()[0])} has no atoms')
    if atoms.size[1] > max_atoms:
        raise ValueError(f"'max_atoms' is {max_atoms} (got molecule {int(atoms.length.argmax())} of {atoms.size[1]} "
                         f"atoms)")
    unknown = (z < 1) | (z >= len(SYMBOLS))
    if bool(unknown.any()):
        raise ValueError(f"'z' must be in 1 … {len(SYMBOLS) - 1} (got {int(z[unknown][0])})")
    refuse(~pos.isfinite().all(dim=1), "'pos' must be finite")
    order = _dense_orders(data, atoms)
    dense_z = atoms.pad(z)
    hydrogen, exists = dense_z == 1, atoms.mask()
    charge = data.get('formal_charge')
    charge = torch.zeros_like(z) if charge is None else charge.view(-1).long()
    if charge.shape != z.shape:
        raise ValueError(f"'formal_charge' must be [{z.numel()}] (got {tuple(charge.shape)})")

    dense_pos = atoms.pad(pos - pos[ptr[:-1]][atoms.batch])
    # the order of atoms: heavy, connected, then hydrogens by parent
    size = (exists & ~hydrogen).sum(dim=1)
    slot = torch.arange(atoms.size[1], device=z.device)
    refuse(atoms.unpad(hydrogen & (slot < size.unsqueeze(1))), f'hydrogens must come after all heavy atoms; {ORDER}')
    if bool((size == 0).any()):
        raise ValueError(f'molecule {int((size == 0).nonzero()[0])} has no heavy atom')
    parent = last_partner(order)
    refuse(atoms.unpad((parent < 0) & (slot > 0)), f'each atom but the first must be bonded to an earlier one, in one '
                                                   f'connected molecule; {ORDER}')
    parent = parent.clamp(min=0)
    refuse(atoms.unpad(hydrogen & (order.sum(dim=2) != 1)), 'a hydrogen must have one single bond')
    refuse(atoms.unpad(hydrogen & (parent >= size.unsqueeze(1))), 'a hydrogen must be bonded to a heavy atom')
    descends = torch.zeros_like(hydrogen)
    descends[:, 1:] = hydrogen[:, 1:] & hydrogen[:, :-1] & (parent[:, 1:] < parent[:, :-1])
    refuse(atoms.unpad(descends), f'hydrogens must follow in the order of their atoms; {ORDER}')
    closures = (order.tril(-1) > 0).sum(dim=2) - 1
    refuse(atoms.unpad(closures > max_closures), f"an atom may close at most 'max_closures' = {max_closures} rings")

    radius = COVALENT_RADII.to(pos)[dense_z]
    reach = LONGEST_BOND * (radius.unsqueeze(1) + radius.unsqueeze(2))
    stretched = (order > 0) & ((dense_pos.unsqueeze(1) - dense_pos.unsqueeze(2)).norm(dim=-1) > reach)
    refuse(atoms.unpad(stretched.any(dim=2)), f'a bond must be shorter than {LONGEST_BOND} times the sum of the '
                                              f'covalent radii')

    hydrogens = ((order > 0) & hydrogen.unsqueeze(1)).sum(dim=2)
    types = vocabulary.index(z, charge, atoms.unpad(hydrogens), atoms.unpad(order.sum(dim=2)))
    unknown = (types < 0) & (z != 1)
    if bool(unknown.any()):
        t = int(unknown.nonzero()[0])
        kind = AtomType(int(z[t]), int(charge[t]), int(atoms.unpad(hydrogens)[t]), int(atoms.unpad(order.sum(2))[t]))
        refuse(unknown, f'the model does not know {kind}')
    num_heavy = int(size.max())
    graph = BondGraph(atoms.pad(types.clamp(min=0))[:, :num_heavy], order[:, :num_heavy, :num_heavy]
                      * ~hydrogen[:, :num_heavy, None] * ~hydrogen[:, None, :num_heavy], size)
    return Skeleton(graph, atoms.length, hydrogen, parent, order), dense_pos


def _dense_orders(data: Data, atoms: Packing) -> Tensor:
    r"""Bond orders [B, N, N] of :obj:`edge_index` and :obj:`edge_attr`, checked."""
    edge, order = data.edge_index, data.edge_attr
    if edge.dim() != 2 or edge.size(0) != 2 or order.numel() != edge.size(1):
        raise ValueError(f"'edge_index' must be [2, E] and 'edge_attr' [E] bond orders (got {tuple(edge.shape)} and "
                         f"{tuple(order.shape)})")
    total = atoms.batch.numel()
    if edge.numel() and not 0 <= int(edge.min()) <= int(edge.max()) < total:
        raise ValueError(f"'edge_index' must be in 0 … {total - 1}, the atoms that there are "
                         f"(got {int(edge.min())} … {int(edge.max())})")
    order = order.reshape(-1)
    wrong = (order != 1) & (order != 2) & (order != 3)
    if bool(wrong.any()):
        raise ValueError(f"bond orders must be 1, 2 or 3, aromatic bonds kekulized (got {order[wrong][0].item():g} "
                         f"between atoms {edge[:, wrong][:, 0].tolist()})")
    u, v = edge
    wrong = (atoms.batch[u] != atoms.batch[v]) | (u == v)
    if bool(wrong.any()):
        raise ValueError(f'a bond must join two different atoms of one molecule (got atoms '
                         f'{edge[:, wrong][:, 0].tolist()})')
    dense = torch.zeros(atoms.size[0], atoms.size[1], atoms.size[1], dtype=torch.long, device=edge.device)
    dense[atoms.batch[u], atoms.slot[u], atoms.slot[v]] = order.long()
    if not bool((dense == dense.mT).all()):
        b, i, j = (dense != dense.mT).nonzero()[0].tolist()
        raise ValueError(f"'edge_index' must have each bond in both directions with one order (got "
                         f"{int(dense[b, i, j])} and {int(dense[b, j, i])} between atoms {i} and {j} of molecule {b})")
    return dense
