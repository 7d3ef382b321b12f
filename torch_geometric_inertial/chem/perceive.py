r"""Bonds that RDKit finds in the positions of one molecule. Runs without torch, in a process of its own: the search may
be endless."""
from __future__ import annotations

from torch_geometric_inertial.chem.plain import Plain, plain_mol
from torch_geometric_inertial.chem.verdicts import Verdict, bare_smiles, status_of


def perceive(molecule: Plain, use_vdw: bool, max_iterations: int) -> Verdict:
    r"""Judges a neutral molecule by the bonds that RDKit's ``DetermineBonds`` finds.

    Args:
        molecule: Its atoms and positions.
        use_vdw: Whether bonds come from van der Waals radii (RDKit's only way before 2023.09), or by connecting the
            dots.
        max_iterations: Bond orders that are tried.

    Returns:
        Verdict: ``'perception_failed'`` where no neutral molecule is found, ``'timeout'`` after too many tries. SMILES,
            as they are for the published figure, wherever a molecule with a bond is found.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds

    mol = plain_mol(Plain(molecule.z, molecule.pos))
    with rdBase.BlockLogs():
        try:
            rdDetermineBonds.DetermineBonds(mol, charge=0, useVdw=use_vdw, maxIterations=max_iterations)
            Chem.SanitizeMol(mol)
        except (ValueError, RuntimeError) as error:
            return Verdict('timeout' if 'iterations' in str(error).lower() else 'perception_failed')
        if mol.GetNumBonds() == 0:
            return Verdict('radical' if mol.GetNumAtoms() == 1 else 'disconnected')
        connected = len(Chem.GetMolFrags(mol)) == 1
        return Verdict(status_of(mol, connected), bare_smiles(mol), connected)
