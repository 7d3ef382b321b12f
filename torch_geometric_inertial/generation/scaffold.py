r"""Atoms that a molecule must contain."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.frames import check_apart
from torch_geometric_inertial.generation.atom_model import AtomModel

NUM_POSES = 8  #: Orders and poses among which the likelihood chooses.
#: Where an order has the hydrogens. A model of random orders begins with any part of a molecule.
HYDROGENS = {'heavy_first': 'last', 'file': 'last', 'smiles': 'between', 'random': 'anywhere', 'traverse': 'anywhere'}


@dataclass(frozen=True)
class Scaffold:
    r"""What a molecule must contain, in the coordinates of the one who asks.

    Args:
        z (Tensor): Atomic numbers [F].
        types (Tensor): The model's types [F].
        pos (Tensor): Positions [F, 3] in Å, float64.
        hydrogens (str): Where the model's order has hydrogens: :obj:`'last'` (all after the heavy atoms),
            :obj:`'between'` (each near the atom that it is bonded to), or :obj:`'anywhere'`.
        num_poses (int): Poses and orders that are drawn, of which the likelihood chooses one.
        whole (bool): Whether only hydrogens are missing, so that the frame of the scaffold is near the molecule's.
        ordered (bool): Whether the atoms are given in the model's order, so that no other is tried.
    """
    z: Tensor
    types: Tensor
    pos: Tensor
    hydrogens: str
    num_poses: int
    whole: bool
    ordered: bool = False

    @classmethod
    def of(cls, model: AtomModel, data: Data, name: str, max_atoms: int, num_poses: int, whole: bool) -> Scaffold:
        r"""The atoms :obj:`z` [F], :obj:`pos` [F, 3] for a model.

        Raises:
            ValueError: If the model cannot begin with them: :obj:`name` is what the message calls them.
        """
        order = model.config.order
        if order not in HYDROGENS:
            raise ValueError(f"a model of order '{order}' cannot begin with a part of a molecule: its sequences do not "
                             f"keep one together (needs one of {', '.join(map(repr, HYDROGENS))})")
        if num_poses < 1:
            raise ValueError(f"'num_poses' must be at least 1 (got {num_poses})")
        try:
            z, pos = data.get('z'), data.get('pos')
            if z is None or pos is None:
                raise ValueError(f"'z' and 'pos' must be there (got {data})")
            types, _, _ = model.tokenize(Data(z=z.to(model.radii.device), pos=pos.to(model.radii.device)))
            if z.numel() > max_atoms:
                raise ValueError(f"'max_atoms' is {max_atoms} (got {z.numel()} atoms)")
            pos = pos.detach().cpu().double()
            check_apart(pos, z.cpu(), torch.tensor([0, z.numel()]))
        except ValueError as error:
            raise ValueError(f'{name} is not a molecule for this model: {error}') from error
        return cls(z.cpu().long(), types.cpu(), pos, HYDROGENS[order], num_poses, whole)

    @property
    def num_prefix(self) -> int:
        r"""Atoms that the sequence begins with; the others wait until the model draws their element. Where hydrogens
        come last, they wait for the heavy atoms to be complete; where they stand between, all atoms but the first
        wait for those."""
        if self.hydrogens == 'between':
            return 1
        if self.hydrogens == 'anywhere':
            return self.z.numel()
        heavy = int((self.z > 1).sum())
        return heavy if heavy > 0 else self.z.numel()

    def reorder(self, canonical: Callable[[Data], Data]) -> Scaffold:
        r"""The scaffold in the canonical order of its atoms, of which no other is tried; as it is if they have none,
        since they overlap."""
        try:
            perm = canonical(Data(z=self.z, pos=self.pos)).perm
        except ValueError:
            return self
        return replace(self, z=self.z[perm], types=self.types[perm], pos=self.pos[perm], ordered=True)
