r"""What users give to a generator, as its networks take it: molecules in any form, in canonical form, and scaffolds."""
from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.data import molecules_of, ptr_of
from torch_geometric_inertial.frames import check_apart, check_points
from torch_geometric_inertial.generation import BondScaffold, GenerationRequest, Scaffold
from torch_geometric_inertial.generation.scaffold import HYDROGENS, NUM_POSES
from torch_geometric_inertial.models.atom_transformer import AtomTransformer
from torch_geometric_inertial.models.bonded_network import BondedNetwork
from torch_geometric_inertial.models.generator_config import GeneratorConfig
from torch_geometric_inertial.models.training_domain import TrainingDomain
from torch_geometric_inertial.nn.condition import conditions_of

if TYPE_CHECKING:
    from torch_geometric_inertial.chem.convert import Molecule

ORDERS = ('smiles', 'heavy_first', 'rank')  #: Canonical orders; the others are no functions of the molecule.
NAMED = 5  #: Molecules that a warning names.


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
        part = with_bonds(data, hydrogens='missing')
        ptr = torch.tensor([0, part.num_nodes])
        check_points(part.pos, part.z, ptr)
        check_apart(part.pos, part.z, ptr)
        return BondScaffold.of(part, network.vocabulary, whole, max_atoms)
    except ValueError as error:
        raise ValueError(f'{name} is not a molecule for this model: {error}') from error


def hydrogen_requests(network: AtomTransformer | BondedNetwork, config: GeneratorConfig, domain: TrainingDomain | None,
                      molecules: Sequence[Data | ValueError], names: Sequence[str], max_atoms: int,
                      strict: bool) -> list[GenerationRequest | ValueError]:
    r"""What is asked for each molecule that lacks hydrogens, with the reason in the place of one that the model cannot
    read or, if strict, that is unlike those of the training set; see :func:`scaffold_of` and :func:`check_domain`.

    Raises:
        ValueError: If the model does not know hydrogen, or writes it before it has seen all heavy atoms.
    """
    if 1 not in config.elements:
        raise ValueError(f"'add_hydrogens' needs a model that knows hydrogen (got elements {config.elements})")
    if HYDROGENS.get(config.order) not in ('last', 'anywhere'):
        raise ValueError(f"'add_hydrogens' needs a model whose order has the hydrogens last, as 'heavy_first' (got "
                         f"order '{config.order}', in which they are written before all heavy atoms are seen)")
    allowed = None
    if isinstance(network, AtomTransformer):
        allowed = torch.tensor([z == 1 for z in config.elements] + [True])
    found: list[GenerationRequest | ValueError] = []
    read: list[tuple[str, Tensor]] = []
    for i, (data, name) in enumerate(zip(molecules, names, strict=True)):
        try:
            if isinstance(data, ValueError):
                raise data
            part = scaffold_of(network, config.order, data, name, max_atoms, whole=True)
            if strict:
                check_domain(domain, [(name, data.z)], 'hydrogens', strict)
            read.append((name, data.z))
            found.append(GenerationRequest(i, max_atoms, None, part, allowed))
        except ValueError as error:
            found.append(error)
    check_domain(domain, read, 'hydrogens', strict)
    return found


def given_molecules(molecules: Molecule | Iterable[Molecule], argument: str) -> tuple[list[Data], list[str]]:
    r"""One or several molecules, and what messages call each."""
    from torch_geometric_inertial.chem import as_molecules, is_one_molecule
    found = as_molecules(molecules)
    if is_one_molecule(molecules) and len(found) == 1:
        return found, [f"'{argument}'"]
    return found, [f"molecule {i} of '{argument}'" for i in range(len(found))]


def check_whole(**numbers: Any) -> None:
    r"""Refuses what is no whole number, such as 2.5, and numbers of molecules below 1; :obj:`None` is not given.

    Raises:
        ValueError: With the argument and what came.
    """
    for name, value in numbers.items():
        if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
            raise ValueError(f"'{name}' must be a whole number (got {value!r})")
        if value is not None and name != 'seed' and value < 1:
            raise ValueError(f"'{name}' must be at least 1 (got {value})")


def wanted_numbers(num_samples: int, shard: tuple[int, int], index: Sequence[int] | None) -> Sequence[int]:
    r"""The numbers of the molecules to write: those that are given, or those of a shard.

    Raises:
        ValueError: If there is no such shard, or a number is there twice or out of range.
    """
    i, n = shard
    if not 0 <= i < n:
        raise ValueError(f"'shard' must be (i, n) with 0 <= i < n (got {tuple(shard)})")
    if index is None:
        return range(num_samples * i // n, num_samples * (i + 1) // n)
    if len(set(index)) < len(index) or not all(0 <= number < num_samples for number in index):
        raise ValueError(f"'index' must hold different numbers from 0 to {num_samples - 1} (got {list(index)[:8]})")
    return index


def length_limit(network: AtomTransformer | BondedNetwork, max_atoms: int | None) -> int:
    r"""The longest molecule that is written: what a user says, or the network's own.

    Raises:
        ValueError: If that is more than the network can write, or less than its smallest molecule.
    """
    most = network.max_atoms
    if max_atoms is None:
        return most
    if max_atoms < 1:
        raise ValueError(f"'max_atoms' must be at least 1 (got {max_atoms})")
    if max_atoms > most:
        raise ValueError(f"'max_atoms' must be at most {most}, the model's own (got {max_atoms})")
    fewest = 1 + int(network.vocabulary.hydrogens.min()) if isinstance(network, BondedNetwork) else 1
    if max_atoms < fewest:
        raise ValueError(f"'max_atoms' must be at least {fewest}, the model's smallest molecule (got {max_atoms})")
    return max_atoms


def given_first(data: Data, given: Data) -> Data:
    r"""A molecule with what was given first, in its order and dtype."""
    data.pos = data.pos.to(given.pos.dtype)
    data.z[:given.num_nodes], data.pos[:given.num_nodes] = given.z.cpu(), given.pos.cpu()
    return data


def check_domain(domain: TrainingDomain | None, molecules: Sequence[tuple[str, Tensor]],
                 lacks: Literal['nothing', 'hydrogens', 'atoms'], strict: bool) -> None:
    r"""Warns, once for all, of molecules that differ from all that the model has learned from.

    Args:
        domain (TrainingDomain, optional): What it has learned from, if that is known.
        molecules (list): What messages call each, and its atomic numbers [N].
        lacks (str): What the molecules lack.
        strict (bool): Whether they are an error.

    Raises:
        ValueError: If strict, with the first of them.
    """
    strange = [] if domain is None else [
        f'{name} {why}' for name, z in molecules if (why := domain.strangeness(z, lacks))]
    if strange and strict:
        raise ValueError(strange[0])
    if strange:
        more = f' (and {len(strange) - NAMED} more)' if len(strange) > NAMED else ''
        warnings.warn(f"{', '.join(strange[:NAMED])}{more}: the model may be wrong there", stacklevel=4)


def check_batch_domain(domain: TrainingDomain | None, data: Data, strict: bool) -> None:
    r"""The same of the whole molecules of a batch."""
    molecules = data.z.split(ptr_of(data).diff().tolist())
    check_domain(domain, [(f'molecule {i}', z) for i, z in enumerate(molecules)], 'nothing', strict)


def check_precision(model: nn.Module, writes_bonds: bool) -> None:
    r"""Refuses a precision in which molecules cannot be read or written.

    Raises:
        ValueError: If the model is in another than float32, float64 or, where it writes bonds, bfloat16.
    """
    dtype = next(model.parameters()).dtype
    kept = (torch.float32, torch.float64, *[torch.bfloat16] * writes_bonds)
    if dtype not in kept:
        raise ValueError(f"the model must be in {', '.join(map(str, kept))} (got {dtype}, in which it would lose "
                         "places or overflow); model.float() is the same in torch.float32")
