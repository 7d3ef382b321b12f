r"""A part of a molecule that is given, for models that write bonds: its graph begins the sequence, its atoms stay."""
from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.elements import SYMBOLS
from torch_geometric_inertial.nn.atom_vocabulary import AtomVocabulary


@dataclass(frozen=True)
class BondScaffold:
    r"""The atoms of a scaffold in the order in which they are written.

    Args:
        index (Tensor): Number of each heavy atom in what was given [F].
        order (Tensor): Orders of the bonds between them [F, F].
        allowed (Tensor): Types that each may have [F, V].
        fewest (Tensor): The fewest hydrogens that each can have [F].
        pos (Tensor): Their positions [F, 3], Å.
        hydrogen_index (Tensor): Numbers of the hydrogens in what was given [H].
        hydrogen_host (Tensor): The heavy atom, in this order, of each [H].
        hydrogen_pos (Tensor): Their positions [H, 3], Å.
        whole (bool): Whether no heavy atom may follow.
        given (Data): What was given.
    """
    index: Tensor
    order: Tensor
    allowed: Tensor
    fewest: Tensor
    pos: Tensor
    hydrogen_index: Tensor
    hydrogen_host: Tensor
    hydrogen_pos: Tensor
    whole: bool
    given: Data

    @classmethod
    def of(cls, data: Data, vocabulary: AtomVocabulary, whole: bool, max_atoms: int) -> BondScaffold:
        r"""A checked scaffold, in the order in which it is given.

        Args:
            data (Data): :obj:`z` [N], :obj:`pos` [N, 3] (Å), :obj:`edge_index` [2, E] (both directions),
                :obj:`edge_attr` [E] (orders 1, 2, 3), :obj:`formal_charge` [N] or none; hydrogens or not.
            vocabulary (AtomVocabulary): The types of the model.
            whole (bool): Whether only hydrogens are missing, so that each heavy atom has all of its other bonds.
            max_atoms (int): Longest molecule.

        Raises:
            ValueError: If no type of the model has the element, the charge and the bonds of an atom, a hydrogen has no
                heavy atom, there is no heavy atom, the heavy atoms are in several parts, every valence is taken, or the
                molecule would be too long.
        """
        z, pos, edge, order = data.z.cpu(), data.pos.cpu().double(), data.edge_index.cpu(), data.edge_attr.cpu()
        charge = data.get('formal_charge')
        charge = torch.zeros_like(z) if charge is None else charge.cpu().view(-1)
        dense = torch.zeros(z.numel(), z.numel(), dtype=torch.long)
        dense[edge[0], edge[1]] = order.reshape(-1).long()
        heavy, hydrogen = (z > 1).nonzero().flatten(), (z == 1).nonzero().flatten()
        if heavy.numel() == 0:
            raise ValueError('a scaffold needs a heavy atom')
        to_heavy = dense[hydrogen][:, heavy]
        if hydrogen.numel() and not bool(((to_heavy == 1).sum(dim=1) == 1).all()):
            h = int(hydrogen[((to_heavy == 1).sum(dim=1) != 1).nonzero()[0]])
            raise ValueError(f'hydrogen {h} needs one single bond to a heavy atom, its parent')
        host = to_heavy.argmax(dim=1) if hydrogen.numel() else hydrogen
        hydrogens = torch.bincount(host, minlength=heavy.numel())
        between = dense[heavy][:, heavy]
        used = between.sum(dim=1, keepdim=True)
        table = vocabulary.z.cpu(), vocabulary.charge.cpu(), vocabulary.hydrogens.cpu(), vocabulary.free.cpu()
        room = table[3] == used if whole else table[3] >= used
        allowed = ((table[0] == z[heavy].unsqueeze(1)) & (table[1] == charge[heavy].unsqueeze(1))
                   & (table[2] >= hydrogens.unsqueeze(1)) & room)
        if not bool(allowed.any(dim=1).all()):
            f = int((~allowed.any(dim=1)).nonzero()[0])
            raise ValueError(f'the model knows no {SYMBOLS[int(z[heavy[f]])]} of charge {int(charge[heavy[f]]):+d}, '
                             f'{int(hydrogens[f])} hydrogens and other bonds of order {int(used[f])} in all, as atom '
                             f'{int(heavy[f])} is')
        fewest = torch.where(allowed, table[2], max_atoms).amin(dim=1)
        if heavy.numel() + int(fewest.sum()) > max_atoms:
            raise ValueError(f"'max_atoms' is {max_atoms} (got {heavy.numel()} heavy atoms, which have "
                             f'{int(fewest.sum())} hydrogens or more)')
        most = torch.where(allowed, table[2] + table[3], 0).amax(dim=1)
        if not whole and bool((used.squeeze(1) + hydrogens >= most).all()):
            raise ValueError('every valence of the scaffold is taken: leave out hydrogens where it is to grow')
        scaffold = cls(heavy, between, allowed, fewest, pos[heavy], hydrogen, host, pos[hydrogen], whole, data)
        scaffold._check_connected()
        return scaffold

    def _check_connected(self) -> None:
        if self.walk(torch.Generator()).index.numel() < self.num_heavy:
            raise ValueError('the heavy atoms of a scaffold must be connected by bonds')

    @property
    def num_heavy(self) -> int:
        return self.index.numel()

    def walk(self, generator: torch.Generator) -> BondScaffold:
        r"""The same atoms in the order of a walk along the bonds, depth first, from a random one, as SMILES have."""
        uniform = torch.rand(self.num_heavy, generator=generator, dtype=torch.float32).tolist()
        stack, path, seen = [max(range(self.num_heavy), key=uniform.__getitem__)], list[int](), set[int]()
        while stack:
            atom = stack.pop()
            if atom in seen:
                continue
            seen.add(atom)
            path.append(atom)
            stack += sorted(self.order[atom].nonzero().flatten().tolist(), key=uniform.__getitem__)
        return self.reorder(torch.tensor(path))

    def reorder(self, perm: Tensor) -> BondScaffold:
        r"""The same with heavy atom :obj:`perm[i]` as number i; atoms that :obj:`perm` lacks are left out."""
        place = torch.full((self.num_heavy, ), -1).index_copy(0, perm, torch.arange(perm.numel()))
        return replace(self, index=self.index[perm], order=self.order[perm][:, perm], allowed=self.allowed[perm],
                       fewest=self.fewest[perm], pos=self.pos[perm], hydrogen_host=place[self.hydrogen_host])

    def allowed_types(self, count: int, room: int, hydrogens: Tensor) -> Tensor | None:
        r"""Which types, and the end, may follow :obj:`count` heavy atoms [V + 1], where types have :obj:`hydrogens` [V]
        and :obj:`room` more atoms fit; :obj:`None` if all may."""
        if count < self.num_heavy:
            spare = room - (self.num_heavy - count) - int(self.fewest[count + 1:].sum())  # for its own hydrogens
            return torch.nn.functional.pad(self.allowed[count] & (hydrogens <= spare), (0, 1))
        if not self.whole:
            return None
        return torch.arange(self.allowed.size(1) + 1) == self.allowed.size(1)

    def places(self, parent: Tensor, size: int, length: int) -> tuple[Tensor, Tensor]:
        r"""Slots of the scaffold's atoms [K] in a molecule of :obj:`size` heavy and :obj:`length` atoms with these
        parents [N], and their positions [K, 3] relative to the first."""
        host = parent[size:length].cpu()
        slots, free = list(range(self.num_heavy)), [True] * host.numel()
        for atom in self.hydrogen_host.tolist():
            k = next(k for k, h in enumerate(host.tolist()) if h == atom and free[k])
            free[k] = False
            slots.append(size + k)
        pos = torch.cat([self.pos, self.hydrogen_pos])
        return torch.tensor(slots), pos - self.pos[0]

    def put_back(self, data: Data, slots: Tensor) -> Data:
        r"""A written molecule in the coordinates of what was given: its atoms first, in their order and unmoved.

        Args:
            data (Data): The molecule, its first atom at the origin.
            slots (Tensor): Slots of the scaffold's atoms in it [K], heavy atoms, then hydrogens, as :meth:`places`.
        """
        given = torch.cat([self.index, self.hydrogen_index])
        first = torch.empty_like(slots).index_copy(0, given, slots)
        new = torch.ones(data.num_nodes, dtype=torch.bool).index_fill(0, slots, False).nonzero().flatten()
        perm = torch.cat([first, new])
        place = torch.empty_like(perm).index_copy(0, perm, torch.arange(perm.numel()))
        pos = (data.pos.double() + self.pos[0])[perm].to(self.given.pos.dtype)
        pos[:slots.numel()] = self.given.pos.cpu()
        return Data(z=data.z[perm], pos=pos, edge_index=place[data.edge_index], edge_attr=data.edge_attr,
                    formal_charge=data.formal_charge[perm], fixed=torch.arange(perm.numel()) < slots.numel(),
                    finished=data.finished)
