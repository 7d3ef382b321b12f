r"""How much energy one molecule loses when it relaxes. Runs without torch, in a process of its own."""
from __future__ import annotations

from typing import NamedTuple

from torch_geometric_inertial.chem.plain import Plain, plain_mol

KCAL_PER_EV = 23.060548


class Strain(NamedTuple):
    r"""``energy``: by how much it falls (kcal/mol); ``rmsd`` of all atoms after superposition (Å); ``converged``."""
    energy: float
    rmsd: float
    converged: bool


def mmff_strain(molecule: Plain, max_steps: int) -> Strain:
    r"""Relaxes a molecule by the MMFF94 force field.

    Raises:
        ValueError: If RDKit refuses the molecule or the force field lacks its atoms.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdForceFieldHelpers as helpers
    from rdkit.Chem import rdMolAlign

    with rdBase.BlockLogs():
        mol = plain_mol(molecule)
        Chem.SanitizeMol(mol)
        if not helpers.MMFFHasAllMoleculeParams(mol):
            raise ValueError('MMFF94 has no parameters for some atom')
        before = Chem.Mol(mol)
        field = helpers.MMFFGetMoleculeForceField(mol, helpers.MMFFGetMoleculeProperties(mol))
        energy = field.CalcEnergy()
        converged = field.Minimize(maxIts=max_steps) == 0
        return Strain(energy - field.CalcEnergy(), rdMolAlign.AlignMol(
            mol, before, atomMap=[(i, i) for i in range(mol.GetNumAtoms())]), converged)


def xtb_strain(molecule: Plain, max_steps: int) -> Strain:
    r"""Relaxes a molecule by GFN2-xTB (tblite), with the sum of its formal charges, down to 0.05 eV/Å.

    Raises:
        ValueError: If RDKit refuses the molecule.
    """
    import os

    import numpy as np
    from ase import Atoms
    from ase.build import minimize_rotation_and_translation
    from ase.optimize import LBFGS
    from rdkit import Chem, rdBase
    from tblite.ase import TBLite

    with rdBase.BlockLogs():
        Chem.SanitizeMol(plain_mol(molecule))
    atoms = Atoms(numbers=molecule.z, positions=molecule.pos)
    atoms.calc = TBLite(method='GFN2-xTB', charge=sum(molecule.charges or (0, )), verbosity=0)
    energy, before = atoms.get_potential_energy(), atoms.copy()
    converged = LBFGS(atoms, logfile=os.devnull).run(fmax=0.05, steps=max_steps)
    drop = energy - atoms.get_potential_energy()
    minimize_rotation_and_translation(before, atoms)
    rmsd = np.sqrt(np.square(before.positions - atoms.positions).sum(1).mean())
    return Strain(float(drop) * KCAL_PER_EV, float(rmsd), bool(converged))
