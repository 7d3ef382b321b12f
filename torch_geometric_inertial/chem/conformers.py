r"""Cheap 3D geometries of a molecular graph."""
from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.chem.graph import rdkit_errors

if TYPE_CHECKING:
    from rdkit.Chem import Mol

TRIES = 20  #: A conformer; strained cages fail hundreds of times, which costs more than the rest of a data set.
METHODS = ('mmff', 'etkdg', 'flat')


class Conformers(NamedTuple):
    r"""Geometries [K, N, 3] (Å) of all atoms of a molecule, and how they were made: one of :data:`METHODS`."""
    pos: Tensor
    method: str


def embed_conformers(mol: Mol, num: int, seed: int) -> Conformers:
    r"""Geometries by distance geometry (ETKDGv3), relaxed with the MMFF94 force field where it has parameters.

    The same molecule, numbers and version of RDKit give the same geometries. Where distance geometry fails, it starts
    from random coordinates, then without regard to stereo centers (strained rings); the last resort is one flat
    drawing.

    Args:
        mol: A sanitised molecule with explicit hydrogens.
        num: How many to ask for; there may be fewer.
        seed: From 0 to 2³¹ - 1.

    Raises:
        ValueError: If the numbers make no sense, or RDKit cannot even draw the molecule.
    """
    from rdkit import Chem
    from rdkit.Chem import rdDepictor, rdDistGeom, rdForceFieldHelpers

    if num < 1 or not 0 <= seed < 2**31:
        raise ValueError(f"'num' must be at least 1 and 'seed' in 0 … 2³¹ - 1 (got {num} and {seed})")
    mol = Chem.Mol(mol)
    parameters = rdDistGeom.ETKDGv3()
    options: Any = parameters  # RDKit's stubs take them for methods
    options.randomSeed, options.numThreads, options.maxIterations = seed, 1, TRIES
    with rdkit_errors('RDKit finds no geometry of the molecule'):
        for options.useRandomCoords, options.enforceChirality in ((False, True), (True, True), (True, False)):
            if rdDistGeom.EmbedMultipleConfs(mol, num, parameters):
                break
        method = 'etkdg'
        if mol.GetNumConformers() == 0:
            rdDepictor.Compute2DCoords(mol)
            method = 'flat'
        elif rdForceFieldHelpers.MMFFHasAllMoleculeParams(mol):
            rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(mol, numThreads=1)
            method = 'mmff'
    pos = torch.stack([torch.from_numpy(conformer.GetPositions()) for conformer in mol.GetConformers()])
    if not bool(pos.isfinite().all()):
        raise ValueError(f"RDKit's geometry of the molecule is not finite ({method})")
    return Conformers(pos.float(), method)
