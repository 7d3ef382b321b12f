r"""The nearest minimum of the energy of one molecule. Runs without torch, in a process of its own."""
from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from torch_geometric_inertial.chem.plain import Plain, plain_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol

KCAL_PER_EV = 23.060548


class Minimum(NamedTuple):
    r"""``pos`` [N, 3] (Å), laid on the positions that were given; ``energy_drop``: by how much the energy has fallen
    (kcal/mol); ``rmsd`` of all atoms (Å); ``converged``."""
    pos: list[list[float]]
    energy_drop: float
    rmsd: float
    converged: bool


def minimize_mmff(molecule: Plain, max_steps: int) -> Minimum:
    r"""Relaxes a molecule by the MMFF94 force field.

    Raises:
        ValueError: If RDKit refuses the molecule or the force field lacks its atoms.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers as helpers
    from rdkit.Chem import rdMolAlign

    with rdBase.BlockLogs():
        mol = _sanitized(molecule)
        if not helpers.MMFFHasAllMoleculeParams(mol):
            raise ValueError('MMFF94 has no parameters for some atom')
        before = Chem.Mol(mol)
        field = helpers.MMFFGetMoleculeForceField(mol, helpers.MMFFGetMoleculeProperties(mol))
        energy = field.CalcEnergy()
        converged = field.Minimize(maxIts=max_steps) == 0
        drop = energy - field.CalcEnergy()
        rmsd = rdMolAlign.AlignMol(mol, before, atomMap=[(i, i) for i in range(mol.GetNumAtoms())])
        return Minimum(mol.GetConformer().GetPositions().tolist(), drop, rmsd, converged)


def minimize_xtb(molecule: Plain, max_steps: int) -> Minimum:
    r"""Relaxes a molecule by GFN2-xTB (tblite), with the sum of its formal charges, down to 0.05 eV/Å.

    Raises:
        ValueError: If RDKit refuses the molecule.
    """
    import os

    import numpy as np
    from ase import Atoms
    from ase.build import minimize_rotation_and_translation
    from ase.optimize import LBFGS
    from rdkit import rdBase
    from tblite.ase import TBLite

    with rdBase.BlockLogs():
        _sanitized(molecule)
    atoms = Atoms(numbers=molecule.z, positions=molecule.pos)
    atoms.calc = TBLite(method='GFN2-xTB', charge=sum(molecule.charges or (0, )), verbosity=0)
    energy, before = atoms.get_potential_energy(), atoms.copy()
    converged = LBFGS(atoms, logfile=os.devnull).run(fmax=0.05, steps=max_steps)
    drop = energy - atoms.get_potential_energy()
    minimize_rotation_and_translation(before, atoms)
    rmsd = np.sqrt(np.square(before.positions - atoms.positions).sum(1).mean())
    return Minimum(atoms.positions.tolist(), float(drop) * KCAL_PER_EV, float(rmsd), bool(converged))


def _sanitized(molecule: Plain) -> Mol:
    from rdkit import Chem

    mol = plain_mol(molecule)
    try:
        Chem.SanitizeMol(mol)
    except ValueError as error:
        raise ValueError(f'RDKit refuses the molecule: {" ".join(str(error).split())}') from None
    return mol
