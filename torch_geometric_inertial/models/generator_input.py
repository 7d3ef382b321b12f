r"""What users give to a generator, as its networks take it: molecules in any form, in canonical form, and scaffolds."""
from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.data import molecules_of, ptr_of
from torch_geometric_inertial.generation import BondScaffold, Scaffold
from torch_geometric_inertial.generation.scaffold import NUM_POSES
from torch_geometric_inertial.models.atom_transformer import AtomTransformer
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.nn.condition import conditions_of

if TYPE_CHECKING:
    from torch_geometric_inertial.chem.convert import Molecule

ORDERS = ('smiles', 'heavy_first', 'rank')  #: Canonical orders; the others are no functions of the molecule.


def molecule_batch(molecules: Molecule | Iterable[Molecule], bonds: bool) -> Data:
    r"""Molecules in any form as one :class:`Data`.

    Args:
        molecules: What :func:`~torch_geometric_inertial.chem.as_molecules` takes.
        bonds (bool): Whether they need bonds: their own, or those that the distances tell.

    Raises:
        ValueError: If there is none, or one is no molecule, with its number.
    """
    if isinstance(molecules, Data) and not (bonds and molecules.get('edge_index') is None):
        return molecules
    from torch_geometric_inertial.chem import as_molecules
    found = molecules_of(molecules) if isinstance(molecules, Data) else as_molecules(molecules)
    if not found:
        raise ValueError("'data' must hold at least one molecule (got none)")
    asked = [conditions_of(data) for data in found]
    shared = set(asked[0]).intersection(*asked)
    kept = []
    for i, data in enumerate(found):
        fields = dict(z=data.z, pos=data.pos, **{name: asked[i][name] for name in sorted(shared)})
        kept.append(Data.from_dict(fields | (_bonds_of(data, i) if bonds else {})))
    return kept[0] if isinstance(molecules, Data) and len(kept) == 1 else Batch.from_data_list(kept)


def _bonds_of(data: Data, i: int) -> dict[str, Tensor]:
    from torch_geometric_inertial.chem import with_bonds
    try:
        data = with_bonds(data)
    except ValueError as error:
        raise ValueError(f'molecule {i} is not a molecule for this model: {error}') from error
    charge = torch.zeros_like(data.z) if data.get('formal_charge') is None else data.formal_charge
    return dict(edge_index=data.edge_index, edge_attr=data.edge_attr, formal_charge=charge)


def canonical_form(data: Data, order: str) -> tuple[Data, Tensor]:
    r"""Molecules in their canonical frame and order, and where each of the atoms that were given is now [T]."""
    from torch_geometric_inertial.transforms import canonical
    data = canonical(order)(data)
    ptr = ptr_of(data)
    first = torch.repeat_interleave(ptr[:-1], ptr.diff())
    place = torch.empty_like(data.perm)
    place[data.perm + first] = torch.arange(place.numel(), device=place.device)
    return data, place


def scaffold_of(network: AtomTransformer | BondedNetwork, order: str, data: Data, name: str, max_atoms: int,
                whole: bool) -> Scaffold | BondScaffold:
    r"""A checked part of a molecule, as the steppers of a network take it.

    Args:
        network (Module): The network.
        order (str): The order of its sequences.
        data (Data): The part; bonds that it lacks are found from its distances, if the network writes bonds.
        name (str): What messages call it.
        max_atoms (int): Longest molecule.
        whole (bool): Whether only hydrogens are missing.

    Raises:
        ValueError: If a molecule of this model cannot begin with it.
    """
    if isinstance(network, AtomTransformer):
        scaffold = Scaffold.of(network, data, name, max_atoms, NUM_POSES, whole)
        if not whole or order not in ORDERS:
            return scaffold
        from torch_geometric_inertial.transforms import CanonicalOrder
        return scaffold.reorder(CanonicalOrder(order=order))
    from torch_geometric_inertial.chem import with_bonds
    try:
        return BondScaffold.of(with_bonds(data, hydrogens='missing'), network.vocabulary, whole, max_atoms)
    except ValueError as error:
        raise ValueError(f'{name} is not a molecule for this model: {error}') from error
