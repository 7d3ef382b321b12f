r"""What RDKit says about the bonds of one molecule. Runs without torch, in a process of its own if need be."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch_geometric_inertial.chem.plain import Plain, plain_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol

#: More neighbors than any atom of a molecule has. Edges that are no bonds, such as all pairs within a cutoff, are found
#: out by it before RDKit searches their rings, which takes minutes or ends in a crash.
MAX_NEIGHBORS = 8


class Verdict(NamedTuple):
    r"""Of one molecule.

    Attributes:
        status: ``'ok'`` or the first of ``'valence'``, ``'radical'``, ``'disconnected'`` that is true.
        smiles: SMILES, where the bonds are valid.
        connected: Whether the bonds hold all atoms together.
        stable: How many atoms have an allowed valence, where the protocol counts them.
    """
    status: str
    smiles: str | None = None
    connected: bool = False
    stable: int = 0


def judge_bonds(molecule: Plain) -> Verdict:
    r"""The molecule's own bonds and charges: RDKit sanitizes them, no atom has an unpaired electron, and one piece
    holds all. SMILES are canonical, without hydrogens and stereo marks."""
    from rdkit import Chem, rdBase

    if max_neighbors(molecule) > MAX_NEIGHBORS:
        return Verdict('valence')
    with rdBase.BlockLogs():
        mol = plain_mol(molecule)
        connected = len(Chem.GetMolFrags(mol)) == 1
        if not sanitizes(mol):
            return Verdict('valence', None, connected)
        status = status_of(mol, connected)
        return Verdict(status, None if status == 'radical' else bare_smiles(mol), connected)


def judge_edm(molecule: Plain) -> Verdict:
    r"""As EDM judges: RDKit sanitizes the bonds and may fill open valences with hydrogens of its own. That it did so
    is said (``'radical'``), and one atom alone is no molecule. SMILES are those of the largest piece, with its
    hydrogens written out."""
    from rdkit import Chem, rdBase

    if max_neighbors(molecule) > MAX_NEIGHBORS:
        return Verdict('valence')
    with rdBase.BlockLogs():
        mol = plain_mol(molecule, implicit_hydrogens=True)
        connected = len(Chem.GetMolFrags(mol)) == 1
        if not sanitizes(mol):
            return Verdict('valence', None, connected)
        filled = any(atom.GetTotalNumHs() or atom.GetNumRadicalElectrons() for atom in mol.GetAtoms())
        if filled and mol.GetNumAtoms() == 1:
            return Verdict('radical', None, connected)
        pieces = [mol] if connected else Chem.GetMolFrags(mol, asMols=True)
        smiles = max((piece.GetNumAtoms(), Chem.MolToSmiles(piece)) for piece in pieces)[1]
    return Verdict('radical' if filled else 'ok' if connected else 'disconnected', smiles, connected)


def judge_table(molecule: Plain, table: Mapping[int, Mapping[int, Sequence[tuple[int, int]]]]) -> Verdict:
    r"""Aromatic-aware valences: an atom is stable if its element and charge allow its number of aromatic bonds together
    with the sum of the orders of its other bonds. Aromaticity is RDKit's; where RDKit refuses the bonds, their Kekulé
    orders count.

    Args:
        molecule: With its bonds.
        table: Element -> charge -> pairs (aromatic bonds, sum of the other orders).
    """
    from rdkit import Chem, rdBase

    if max_neighbors(molecule) > MAX_NEIGHBORS:
        return Verdict('valence')
    with rdBase.BlockLogs():
        mol = plain_mol(molecule)
        connected = len(Chem.GetMolFrags(mol)) == 1
        accepted = Chem.Mol(mol)
        smiles = None
        if sanitizes(accepted):
            mol, smiles = accepted, bare_smiles(accepted)
    aromatic, rest = [0] * len(molecule.z), [0] * len(molecule.z)
    for bond in mol.GetBonds():
        for atom in (bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()):
            if bond.GetIsAromatic():
                aromatic[atom] += 1
            else:
                rest[atom] += int(bond.GetBondTypeAsDouble())
    stable = sum((aromatic[i], rest[i]) in table.get(number, {}).get(mol.GetAtomWithIdx(i).GetFormalCharge(), ())
                 for i, number in enumerate(molecule.z))
    status = 'valence' if smiles is None else status_of(mol, connected)
    if status == 'radical':
        smiles = None
    return Verdict('valence' if stable < len(molecule.z) else status, smiles, connected, stable)


def max_neighbors(molecule: Plain) -> int:
    r"""The most bonds that one atom has."""
    degree = [0] * len(molecule.z)
    for u, v in molecule.bonds:
        degree[u] += 1
        degree[v] += 1
    return max(degree, default=0)


def sanitizes(mol: Mol) -> bool:
    r"""Whether RDKit accepts the molecule; sanitizes it."""
    from rdkit import Chem

    try:
        Chem.SanitizeMol(mol)
    except (ValueError, RuntimeError):
        return False
    return True


def status_of(mol: Mol, connected: bool) -> str:
    r"""The status of a molecule that RDKit accepts."""
    if any(atom.GetNumRadicalElectrons() or atom.GetNumImplicitHs() for atom in mol.GetAtoms()):
        return 'radical'
    return 'ok' if connected else 'disconnected'


def bare_smiles(mol: Mol) -> str:
    r"""Canonical SMILES of a sanitized molecule, without hydrogens and stereo marks."""
    from rdkit import Chem

    return Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False), isomericSmiles=False)


def ring_sizes(molecule: Plain) -> list[int]:
    r"""Sizes of the smallest set of smallest rings; none where the edges are no bonds (:data:`MAX_NEIGHBORS`)."""
    from rdkit import Chem

    if max_neighbors(molecule) > MAX_NEIGHBORS:
        return []
    return [len(ring) for ring in Chem.GetSSSR(plain_mol(molecule._replace(pos=None)))]
