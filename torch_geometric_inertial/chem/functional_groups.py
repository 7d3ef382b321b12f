r"""Functional groups as SMARTS, and which of them a molecule has.

The patterns expect hydrogens as atoms or as counts, and Kekulé bonds or aromatic ones; charges do not matter.
"""
from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

from torch_geometric.data import Data

from torch_geometric_inertial.chem.fields import bonds_of, charges_of, check_molecule
from torch_geometric_inertial.chem.graph import build_mol, rdkit_errors
from torch_geometric_inertial.chem.mol import to_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol

#: The 20 groups of InertialAR on QM9, in their order.
QM9_GROUPS: dict[str, str] = {
    'carbon': '[#6]',
    'alcohol': '[OX2;H1][CX4]',
    'phenol': '[OX2;H1]c',
    'benzene': 'c1ccccc1',
    'other_aromatic_ring': '[$(a1aaaa1),$([a;!#6]1aaaaa1),$(a1aaaaaa1)]',
    'alkene': 'C=C',
    'alkyne': '[CX2]#[CX2]',
    'ether': '[OX2;!$(OC=[!#6])]([#6])[#6]',
    'aldehyde': '[$([CX3;H1](=[OX1])[#6]),$([CX3;H2]=[OX1])]',
    'ketone': '[#6][CX3](=[OX1])[#6]',
    'carboxylic_acid': '[CX3](=[OX1])[OX2;H1]',
    'ester': '[#6,#1][CX3](=[OX1])[OX2][#6]',
    'primary_amine': '[NX3;H2;!$(NC=[!#6])][#6]',
    'secondary_amine': '[NX3;H1;!$(NC=[!#6])]([#6])[#6]',
    'tertiary_amine': '[NX3;H0;!$(NC=[!#6])]([#6])([#6])[#6]',
    'amide': '[CX3](=[OX1])[NX3]',
    'nitrile': '[CX2]#[NX1]',
    'nitro': '[#6][NX3](~[OX1])~[OX1]',
    'alkyl_fluoride': 'F[CX4]',
    'aryl_fluoride': 'Fc',
}

#: Groups and rings of drug-like molecules.
DRUG_GROUPS: dict[str, str] = {
    'benzene': 'c1ccccc1',
    'naphthalene': 'c1ccc2ccccc2c1',
    'pyridine': 'n1ccccc1',
    'pyrimidine': 'n1cnccc1',
    'pyrazine': 'n1ccncc1',
    'pyridazine': 'n1ncccc1',
    'quinoline': 'n1cccc2ccccc12',
    'pyrrole': '[nX3]1cccc1',
    'indole': '[nX3]1ccc2ccccc12',
    'furan': 'o1cccc1',
    'thiophene': 's1cccc1',
    'imidazole': '[nX3]1cncc1',
    'pyrazole': '[nX3]1nccc1',
    'oxazole': 'o1cncc1',
    'isoxazole': 'o1nccc1',
    'thiazole': 's1cncc1',
    'triazole': '[$(n1nncc1),$(n1cncn1)]',
    'tetrazole': 'n1nnnc1',
    'pyrrolidine': 'N1CCCC1',
    'piperidine': 'N1CCCCC1',
    'piperazine': 'N1CCNCC1',
    'morpholine': 'N1CCOCC1',
    'cyclopropane': 'C1CC1',
    'cyclohexane': 'C1CCCCC1',
    'alkene': 'C=C',
    'alkyne': '[CX2]#[CX2]',
    'alcohol': '[OX2;H1][CX4]',
    'phenol': '[OX2;H1]c',
    'alkyl_ether': '[OX2;!$(OC=[!#6])]([CX4])[CX4]',
    'aryl_ether': '[OX2](c)[#6;!$(C=[!#6])]',
    'epoxide': 'O1CC1',
    'aldehyde': '[$([CX3;H1](=[OX1])[#6]),$([CX3;H2]=[OX1])]',
    'ketone': '[#6][CX3](=[OX1])[#6]',
    'carboxylic_acid': '[CX3](=[OX1])[$([OX2;H1]),$([OX1;-])]',
    'ester': '[#6,#1][CX3](=[OX1])[OX2][#6]',
    'carbamate': '[NX3][CX3](=[OX1])[OX2][#6]',
    'amide': '[#6,#1][CX3](=[OX1])[NX3]',
    'urea': '[NX3][CX3](=[OX1])[NX3]',
    'imide': '[CX3](=[OX1])[NX3][CX3]=[OX1]',
    'primary_amine': '[NX3;H2;!$(NC=[!#6]);!$(NS=O)][CX4]',
    'secondary_amine': '[NX3;H1;!$(NC=[!#6]);!$(NS=O)]([CX4])[CX4]',
    'tertiary_amine': '[NX3;H0;!$(NC=[!#6]);!$(NS=O)]([CX4])([CX4])[CX4]',
    'aniline': '[NX3;!$(NC=[!#6]);!$(NS=O);!$(N~[OX1])]c',
    'imine': '[CX3;!$(CN)]=[NX2][#6,#1]',
    'amidine': '[NX3][CX3]([!N])=[NX2]',
    'guanidine': '[NX3][CX3]([NX3])=[NX2]',
    'oxime': '[CX3]=[NX2][OX2]',
    'hydrazone': '[CX3]=[NX2][NX3]',
    'azo': '[#6][NX2]=[NX2][#6]',
    'azide': '[NX2]~[NX2]~[NX1]',
    'nitrile': '[CX2]#[NX1]',
    'nitro': '[#6][NX3](~[OX1])~[OX1]',
    'thiol': '[SX2;H1][#6]',
    'thioether': '[SX2;!$(SC=[!#6])]([#6])[#6]',
    'disulfide': '[SX2][SX2]',
    'sulfoxide': '[#6][SX3](~[OX1])[#6]',
    'sulfone': '[#6][SX4](~[OX1])(~[OX1])[#6]',
    'sulfonamide': '[SX4](~[OX1])(~[OX1])[NX3]',
    'phosphate': '[PX4](~[OX1])([#8])([#8])[#8]',
    'boronic_acid': 'B([OX2])[OX2]',
    'fluoride': 'F[#6]',
    'trifluoromethyl': '[CX4](F)(F)F',
    'chloride': 'Cl[#6]',
    'bromide': 'Br[#6]',
    'iodide': 'I[#6]',
}

VOCABULARIES: dict[str, dict[str, str]] = {'qm9': QM9_GROUPS, 'drugs': DRUG_GROUPS}


def get_vocabulary(vocabulary: str | Mapping[str, str]) -> dict[str, str]:
    r"""The groups of a name of :data:`VOCABULARIES`, or these themselves, name to SMARTS.

    Raises:
        ValueError: If the name is unknown, or there is no group in it.
    """
    if isinstance(vocabulary, str):
        if vocabulary not in VOCABULARIES:
            raise ValueError(f"'vocabulary' must be one of {', '.join(VOCABULARIES)}, or name to SMARTS "
                             f"(got '{vocabulary}')")
        return VOCABULARIES[vocabulary]
    if len(vocabulary) == 0:
        raise ValueError("'vocabulary' must hold at least one group (got none)")
    return dict(vocabulary)


def find_groups(data: Data, vocabulary: Mapping[str, str], perception: str = 'rdkit-vdw') -> list[bool]:
    r"""Which groups a molecule has, in the order of the vocabulary.

    Args:
        data (Data): :obj:`z` [N], :obj:`pos` [N, 3] in Å and, if there, bonds as for :func:`to_mol`.
        vocabulary (dict): Name to SMARTS.
        perception (str): Where bonds come from if there is no :obj:`edge_index`: see :func:`to_mol`. Bonds without
            orders get those that RDKit finds for them.

    Raises:
        ValueError: If the molecule is malformed, its bonds are not to be perceived, or a SMARTS does not parse.
    """
    patterns = _patterns(tuple(vocabulary.items()))
    if data.get('edge_index') is None:
        mol = to_mol(data, perception)
    elif data.get('edge_attr') is None:
        mol = _with_orders(data)
    else:
        z, _ = check_molecule(data)
        mol = build_mol(z.tolist(), *bonds_of(data), charges=charges_of(data))
    with rdkit_errors("RDKit refuses 'data'"):
        _perceive_rings(mol)
        return [mol.HasSubstructMatch(pattern) for pattern in patterns]


def _with_orders(data: Data) -> Mol:
    r"""The molecule with its bonds, and the orders that RDKit finds for them.

    Raises:
        ValueError: If its edges are no bonds, or no orders fit them.
    """
    from rdkit.Chem import rdDetermineBonds

    z, pos = check_molecule(data)
    charges = charges_of(data)
    mol = build_mol(z.tolist(), *bonds_of(data), pos.tolist())
    with rdkit_errors("'edge_index' has no bond orders in 'edge_attr', and RDKit finds none"):
        rdDetermineBonds.DetermineBondOrders(mol, charge=sum(charges or [0]), maxIterations=1000)
    return mol


def _perceive_rings(mol: Mol) -> None:
    r"""Rings and aromaticity, and nothing that fails: a nitrogen with four bonds is none of our business."""
    from rdkit import Chem

    mol.UpdatePropertyCache(strict=False)
    Chem.GetSymmSSSR(mol)
    Chem.SetAromaticity(mol)


@cache
def _patterns(vocabulary: tuple[tuple[str, str], ...]) -> list[Mol]:
    from rdkit import Chem, rdBase

    patterns = []
    for name, smarts in vocabulary:
        with rdBase.BlockLogs():
            pattern = Chem.MolFromSmarts(smarts) if isinstance(smarts, str) and smarts else None
        if pattern is None:
            raise ValueError(f"the SMARTS of group '{name}' does not parse (got {smarts!r})")
        patterns.append(pattern)
    return patterns


def check_vocabulary(vocabulary: Mapping[str, str]) -> None:
    r"""Refuses a vocabulary whose SMARTS do not parse.

    Raises:
        ValueError: With the group's name and its SMARTS.
    """
    _patterns(tuple(vocabulary.items()))
