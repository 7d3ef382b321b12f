r"""Molecules to and from ASE."""
from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import ATOM_FIELDS, atom_field, check_molecule
from torch_geometric_inertial.chem.properties import Properties, properties_of, title_of

if TYPE_CHECKING:
    from ase import Atoms



def to_ase(data: Data) -> Atoms:
    r"""ASE's atoms of a molecule; they know no bonds.

    ``cell`` and ``pbc`` are ASE's own; ``formal_charge``, ``num_radical_electrons`` and ``isotope`` become arrays of
    these names, formal charges the initial charges, and the total charge and the spin multiplicity (all unpaired
    electrons parallel) ``info['charge']`` and ``info['spin']``. Title, ``finished`` and properties stand in ``info``;
    ``energy`` [1] and ``force`` [N, 3] in a calculator that has them stored.

    Raises:
        ValueError: If the molecule is malformed.
        ImportError: Without ASE.
    """
    try:
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator
    except ImportError as error:
        raise ImportError("this needs ASE: pip install ase") from error

    z, pos = check_molecule(data)
    cell, pbc = data.get('cell'), data.get('pbc')
    atoms = Atoms(z.numpy(), pos.numpy(), info=dict(properties_of(data)),
                  cell=None if cell is None else cell.reshape(3, 3).tolist(),
                  pbc=None if pbc is None else pbc.reshape(3).tolist())
    for name in ATOM_FIELDS:
        values = atom_field(data, name)
        if values is not None and any(values):
            atoms.new_array(name, torch.tensor(values).numpy())
    charges, radicals = atom_field(data, 'formal_charge'), atom_field(data, 'num_radical_electrons')
    if charges is not None and any(charges):
        atoms.set_initial_charges(charges)
    if charges is not None or data.get('charge') is not None:
        atoms.info['charge'] = int(data.charge) if charges is None else sum(charges)
    if radicals is not None:
        atoms.info['spin'] = 1 + sum(radicals)
    if title_of(data):
        atoms.info['title'] = title_of(data)
    if isinstance(data.get('finished'), bool):
        atoms.info['finished'] = data.finished
    energy, force = data.get('energy'), data.get('force')
    results: dict[str, Any] = {} if energy is None else dict(energy=float(energy))
    if force is not None:
        results['forces'] = force.detach().cpu().double().numpy()
    if results:
        atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def from_ase(atoms: Atoms) -> Data:
    r"""A :class:`Data` object from ASE's atoms: the fields of :func:`to_ase`, where ASE has them.

    Whole-numbered initial charges are formal charges where no array says so; masses half a unit or more off the
    element's are isotopes. Of ``info``, numbers, truth values and texts are properties.

    Raises:
        ValueError: If there are no atoms, a position or an element is none, or a charge, a radical or an isotope is no
            whole number within its limits.
    """
    data = Data(z=torch.from_numpy(atoms.numbers).long(), pos=torch.from_numpy(atoms.positions).float())
    check_molecule(data, "'atoms'")
    for name in ATOM_FIELDS:
        if atoms.has(name):
            data[name] = torch.from_numpy(atoms.get_array(name))
    charges = torch.from_numpy(atoms.get_initial_charges())
    if 'formal_charge' not in data and bool(charges.any()) and bool((charges == charges.round()).all()):
        data.formal_charge = charges
    if 'isotope' not in data and atoms.has('masses'):
        data.isotope = _isotopes(atoms)
    for name in ATOM_FIELDS:
        if name in data:
            data[name] = torch.tensor(atom_field(data, name))
    if 'formal_charge' in data:
        data.charge = data.formal_charge.sum(0, keepdim=True)
    elif 'charge' in atoms.info:
        data.charge = torch.tensor([_whole_charge(atoms.info['charge'])])
    if atoms.cell.rank > 0 or atoms.pbc.any():
        data.cell = torch.from_numpy(atoms.cell.array.copy()).float().unsqueeze(0)
        data.pbc = torch.from_numpy(atoms.pbc.copy()).unsqueeze(0)
    results = {} if atoms.calc is None else getattr(atoms.calc, 'results', {})
    if results.get('energy') is not None and math.isfinite(results['energy']):
        data.energy = torch.tensor([float(results['energy'])], dtype=torch.float64)
    if results.get('forces') is not None:
        data.force = torch.from_numpy(results['forces'].copy()).float()
    info = {str(name): value.item() if hasattr(value, 'item') and getattr(value, 'size', 0) == 1 else value
            for name, value in atoms.info.items() if name not in ('charge', 'spin')}
    data.title = str(info.pop('title', info.pop('name', '')))
    if isinstance(info.get('finished'), bool):
        data.finished = info.pop('finished')
    data.properties = Properties({name: value for name, value in info.items()
                                  if isinstance(value, (bool, int, float, str))})
    return data


def _whole_charge(value: Any) -> int:
    if not isinstance(value, (int, float, np.integer, np.floating)) or value not in range(-1000, 1001):
        raise ValueError(f"'charge' must be a whole number from -1000 to 1000 (got {str(value)[:40]})")
    return int(value)


def _isotopes(atoms: Atoms) -> torch.Tensor:
    from ase.data import atomic_masses

    masses = torch.from_numpy(atoms.get_masses())
    usual = torch.from_numpy(atomic_masses[atoms.numbers])
    return torch.where((masses - usual).abs() >= 0.5, masses.round(), 0.0)
