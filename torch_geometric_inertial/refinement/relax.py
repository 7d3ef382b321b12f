r"""Molecules relaxed to the nearest minimum of the energy."""
from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial.chem import as_items, is_one_molecule, with_bonds
from torch_geometric_inertial.chem.fields import atom_field, bonds_of, charges_of, check_molecule
from torch_geometric_inertial.chem.minimize import Minimum
from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.chem.properties import Properties
from torch_geometric_inertial.metrics.processes import Failure, run
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.metrics.strain_energy import StrainProtocol

if TYPE_CHECKING:
    from torch_geometric_inertial.chem.convert import Molecule

#: Method -> the protocol whose function, steps and time limit it has.
RELAXATION_METHODS = {'mmff': 'strain', 'xtb': 'strain-xtb'}


def relax(molecules: Molecule | Batch | Iterable[Molecule], method: str = 'mmff',
          workers: int | None = None) -> Data | list[Data]:
    r"""Relaxes molecules, with the bonds and charges that they bring or, where they bring none, those that the
    distances tell.

    Args:
        molecules: What :func:`~torch_geometric_inertial.chem.as_molecules` takes, in Å: one molecule, several, a file.
        method: ``'mmff'``, MMFF94 of RDKit, milliseconds a molecule; or ``'xtb'``, GFN2-xTB of tblite, down to
            0.05 eV/Å, seconds a molecule.
        workers: Processes to work in. (default: one)

    Returns:
        Data or list: One for one, a list for several. The same with ``pos`` [N, 3] at the minimum, laid on the
        positions that were given; ``energy_drop``, by how much the energy has fallen (kcal/mol); and ``rmsd`` of all
        atoms from where they were (Å). ``energy`` and ``force``, which were those of other positions, are not there.

    Raises:
        ValueError: On another method, fewer workers than one, and molecules that are malformed, periodic, radicals, not
            known to the method, or not at a minimum after 2000 (300) steps and 120 (600) s, with their number.
        ImportError: Without RDKit, or without tblite and ASE.
    """
    found = relax_items(as_items(molecules), method, workers)
    for i, item in enumerate(found):
        if isinstance(item, ValueError):
            raise ValueError(f'molecule {i}: {item}')
    relaxed = [item for item in found if isinstance(item, Data)]
    return relaxed[0] if is_one_molecule(molecules) and len(relaxed) == 1 else relaxed


def relax_items(items: Sequence[Data | ValueError], method: str, workers: int | None = None) -> list[Data | ValueError]:
    r"""As :func:`relax`, with the reason in the place of a molecule that cannot be relaxed."""
    protocol = method_of(method)
    if workers is not None and workers < 1:
        raise ValueError(f"'workers' must be at least 1 (got {workers})")
    found: list[Data | ValueError] = [_relaxable(item) if isinstance(item, Data) else item for item in items]
    bonded = [(i, data) for i, data in enumerate(found) if isinstance(data, Data)]
    calls = [(_plain(data), protocol.max_steps) for _, data in bonded]
    minima = run(f'torch_geometric_inertial.chem.minimize:{protocol.function}', calls, workers or 1, protocol.seconds)
    for (i, data), one in zip(bonded, minima, strict=True):
        found[i] = _moved(data, one, protocol.max_steps)
    return found


def method_of(method: str) -> StrainProtocol:
    r"""How a method relaxes.

    Raises:
        ValueError: If there is no such method.
        ImportError: If a package that it needs is not there.
    """
    if method not in RELAXATION_METHODS:
        raise ValueError(f"the method of relaxation must be one of {', '.join(RELAXATION_METHODS)} (got {method!r})")
    protocol = get_protocol(RELAXATION_METHODS[method])
    assert isinstance(protocol, StrainProtocol)
    missing = [name for name in protocol.packages if not _is_there(name)]
    if missing:
        raise ImportError(f"relaxation by '{method}' needs {missing[0]}: pip install {' '.join(missing)}")
    return protocol


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it was imported by hand, without a specification
        return False


def _relaxable(data: Data) -> Data | ValueError:
    try:
        check_molecule(data)
        if data.get('pbc') is not None and bool(data.pbc.any()):
            raise ValueError('it is periodic, and only molecules are relaxed')
        data = with_bonds(data)
        if any(atom_field(data, 'num_radical_electrons') or ()):
            raise ValueError('it has unpaired electrons, and only closed shells are relaxed')
        bonds_of(data)
    except ValueError as error:
        return error
    return data


def _plain(data: Data) -> Plain:
    z, pos = check_molecule(data)
    return Plain(z.tolist(), pos.tolist(), *bonds_of(data), charges_of(data))


def _moved(data: Data, found: Minimum | Failure, max_steps: int) -> Data | ValueError:
    if isinstance(found, Failure):
        return ValueError(found.message.removeprefix('ValueError: '))
    pos = torch.tensor(found.pos, dtype=data.pos.dtype, device=data.pos.device).reshape(-1, 3)
    if not found.converged or not bool(pos.isfinite().all()):
        return ValueError(f'it is not at a minimum after {max_steps} steps')
    relaxed = data.clone()
    for name in ('energy', 'force'):
        if name in relaxed:
            del relaxed[name]
    if relaxed.get('properties'):  # of an earlier relaxation
        relaxed.properties = Properties({name: value for name, value in relaxed.properties.items()
                                         if name not in ('energy_drop', 'rmsd')})
    relaxed.pos, relaxed.energy_drop, relaxed.rmsd = pos, found.energy_drop, found.rmsd
    return relaxed
