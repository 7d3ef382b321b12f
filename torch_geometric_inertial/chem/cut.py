r"""Parts of molecules, cut at a bond."""
import torch
from torch_geometric.data import Data

from torch_geometric_inertial.chem.mol import to_mol


def cut_bond(data: Data, generator: torch.Generator, perception: str = 'edm') -> Data | None:
    r"""Cuts a random single bond that is in no ring, between two heavy atoms, and keeps the part with more heavy atoms
    (either, if they have as many). Its atoms keep their places and their order.

    Args:
        data: With ``z`` [N], ``pos`` [N, 3] in Å.
        generator: Chooses the bond.
        perception: Where the bonds come from; see :func:`~torch_geometric_inertial.chem.to_mol`.

    Returns:
        The part: ``z`` [F], ``pos`` [F, 3], ``atom`` [F], the numbers of its atoms in the molecule, and ``open`` [1],
        that of the atom whose bond is cut; :obj:`None` if the molecule has no such bond.

    Raises:
        ValueError: If the molecule is malformed, or has impossible valences.
    """
    from rdkit import Chem

    mol = to_mol(data, perception, sanitize=True)
    bonds = [bond.GetIdx() for bond in mol.GetBonds()
             if bond.GetBondType() == Chem.BondType.SINGLE and not bond.IsInRing()
             and bond.GetBeginAtom().GetAtomicNum() > 1 and bond.GetEndAtom().GetAtomicNum() > 1]
    if not bonds:
        return None
    cut = mol.GetBondWithIdx(bonds[int(torch.randint(len(bonds), (1, ), generator=generator))])
    ends = (cut.GetBeginAtomIdx(), cut.GetEndAtomIdx())
    parts = Chem.GetMolFrags(Chem.FragmentOnBonds(mol, [cut.GetIdx()], addDummies=False))
    sides = [(torch.tensor(sorted(part)), end) for end in ends for part in parts if end in part]
    heavy = [int((data.z[part] > 1).sum()) for part, _ in sides]
    tie = int(torch.randint(2, (1, ), generator=generator))
    part, end = sides[tie if heavy[0] == heavy[1] else int(heavy[1] > heavy[0])]
    return Data(z=data.z[part], pos=data.pos[part], atom=part, open=torch.tensor([end]))
