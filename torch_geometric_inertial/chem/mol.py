r"""Molecules to and from RDKit."""
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial.chem.bond_tables import table_bonds
from torch_geometric_inertial.elements import SYMBOLS

if TYPE_CHECKING:
    from rdkit.Chem import Mol

PERCEPTIONS = ('edm', 'data', 'rdkit-ctd', 'rdkit-vdw')


def build_mol(
    z: list[int],
    bonds: list[tuple[int, int]],
    orders: list[int],
    pos: list[list[float]] | None = None,
    charges: list[int] | None = None,
    implicit_hydrogens: bool = False,
) -> 'Mol':
    r"""An unsanitised RDKit molecule from atoms and bonds.

    Args:
        z: Atomic numbers.
        bonds: Pairs of atom indices.
        orders: Bond orders 1, 2, 3, one a bond.
        pos: Positions in Å, stored as a conformer.
        charges: Formal charges.
        implicit_hydrogens: Whether RDKit may think of hydrogens that are not there, as EDM's metric lets it. Otherwise
            an open valence is a radical.
    """
    from rdkit import Chem
    from rdkit.Geometry import Point3D

    kinds = {1: Chem.BondType.SINGLE, 2: Chem.BondType.DOUBLE, 3: Chem.BondType.TRIPLE}
    mol = Chem.RWMol()
    for i, number in enumerate(z):
        atom = Chem.Atom(number)
        atom.SetNoImplicit(not implicit_hydrogens)
        if charges is not None:
            atom.SetFormalCharge(charges[i])
        mol.AddAtom(atom)
    for (u, v), order in zip(bonds, orders, strict=True):
        mol.AddBond(u, v, kinds[order])
    if pos is not None:
        conformer = Chem.Conformer(len(z))
        conformer.Set3D(True)
        for i, xyz in enumerate(pos):
            conformer.SetAtomPosition(i, Point3D(*xyz))
        mol.AddConformer(conformer)
    return mol.GetMol()


def largest_fragment(mol: 'Mol') -> tuple[bool, str | None]:
    r"""Whether the molecule is in one piece, and the SMILES of its largest piece; :obj:`None` if RDKit refuses it.

    Sanitises :obj:`mol`.
    """
    from rdkit import Chem, rdBase

    connected = len(Chem.GetMolFrags(mol)) == 1
    with rdBase.BlockLogs():
        try:
            Chem.SanitizeMol(mol)
        except ValueError:  # all of RDKit's sanitisation errors are
            return connected, None
        fragments = [mol] if connected else Chem.GetMolFrags(mol, asMols=True)
        return connected, max((part.GetNumAtoms(), Chem.MolToSmiles(part)) for part in fragments)[1]


def rdkit_version() -> str:
    r"""The installed RDKit's.

    Raises:
        ImportError: Without RDKit.
    """
    try:
        import rdkit
    except ImportError as error:
        raise ImportError("this needs RDKit: pip install 'torch_geometric_inertial[chem]'") from error
    return rdkit.__version__


def check_molecule(data: Data, what: str = 'data') -> tuple[Tensor, Tensor]:
    r"""The molecule's ``z`` [N] (int64) and ``pos`` [N, 3] (float64), on the CPU.

    Raises:
        ValueError: If something is missing, misshapen, empty, not finite or no element.
    """
    z, pos = data.get('z'), data.get('pos')
    if z is None or pos is None:
        raise ValueError(f"{what} needs atomic numbers 'z' and positions 'pos' (got {data})")
    if z.dim() != 1 or pos.shape != (z.numel(), 3):
        raise ValueError(f"{what} needs 'z' [N] and 'pos' [N, 3] (got {list(z.shape)} and {list(pos.shape)})")
    if z.numel() == 0:
        raise ValueError(f'{what} has no atoms')
    z, pos = z.detach().cpu().long(), pos.detach().cpu().double()
    if not pos.isfinite().all():
        atom = int((~pos.isfinite().all(-1)).nonzero()[0])
        raise ValueError(f"{what} has a position that is not finite, at atom {atom}: {pos[atom].tolist()}")
    if int(z.min()) < 1 or int(z.max()) >= len(SYMBOLS):
        atom = int(((z < 1) | (z >= len(SYMBOLS))).nonzero()[0])
        rule = f"'z' must be in 1..{len(SYMBOLS) - 1}"
        raise ValueError(f'{what} has no element at atom {atom}: {rule} (got {int(z[atom])})')
    return z, pos


def to_mol(data: Data, perception: str = 'edm', sanitize: bool = False) -> 'Mol':
    r"""An RDKit molecule with a 3D conformer from a :class:`Data` object.

    Args:
        data: With ``z`` [N], ``pos`` [N, 3] in Å.
        perception: Where the bonds come from: ``'edm'`` the EDM distance tables; ``'data'`` ``data.edge_index``
            [2, E] (either or both directions) with orders in ``data.edge_attr`` [E] (all single without it);
            ``'rdkit-ctd'`` and ``'rdkit-vdw'`` RDKit's own perception of a neutral molecule by connect-the-dots or
            van der Waals radii, with a bounded number of iterations.
        sanitize: Whether to sanitise it, which fails on impossible valences.

    Raises:
        ValueError: If the molecule is malformed, or RDKit finds no neutral molecule in it.
    """
    if perception not in PERCEPTIONS:
        raise ValueError(f"'perception' must be one of {PERCEPTIONS} (got {perception!r})")
    z, pos = check_molecule(data)
    if perception == 'edm':
        bonds = table_bonds(z, pos, torch.tensor([0, z.numel()]))
        mol = build_mol(z.tolist(), bonds.ends.t().tolist(), bonds.order.tolist(), pos.tolist())
    elif perception == 'data':
        mol = build_mol(z.tolist(), *bonds_of(data), pos.tolist(), charges_of(data))
    else:
        mol = _perceive(build_mol(z.tolist(), [], [], pos.tolist()), perception == 'rdkit-vdw')
    if sanitize:
        from rdkit import Chem

        Chem.SanitizeMol(mol)
    return mol


def from_mol(mol: 'Mol') -> Data:
    r"""A :class:`Data` object with ``z`` [N], ``pos`` [N, 3] (float32, Å), ``edge_index`` [2, 2E], ``edge_attr`` [2E]
    (Kekulé orders) and ``charge`` [N] from an RDKit molecule with a conformer.

    Raises:
        ValueError: If the molecule has no conformer.
    """
    from rdkit import Chem

    if mol.GetNumConformers() == 0:
        raise ValueError("'mol' has no conformer: embed it first")
    mol = Chem.Mol(mol)
    Chem.Kekulize(mol, clearAromaticFlags=True)
    pairs = [(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx(), int(bond.GetBondTypeAsDouble())) for bond in mol.GetBonds()]
    directed = sorted(pairs + [(v, u, order) for u, v, order in pairs])
    edges = torch.tensor(directed, dtype=torch.long).reshape(-1, 3)
    return Data(
        z=torch.tensor([atom.GetAtomicNum() for atom in mol.GetAtoms()], dtype=torch.long),
        pos=torch.from_numpy(mol.GetConformer().GetPositions()).float().reshape(-1, 3),
        edge_index=edges[:, :2].t().contiguous(),
        edge_attr=edges[:, 2].contiguous(),
        charge=torch.tensor([atom.GetFormalCharge() for atom in mol.GetAtoms()], dtype=torch.long),
    )


def bonds_of(data: Data, what: str = 'data') -> tuple[list[tuple[int, int]], list[int]]:
    r"""Each bond of ``data.edge_index`` once, with its order from ``data.edge_attr``: [E], or one-hot [E, 4] as PyG's
    own QM9 has it (single, double, triple, and aromatic, which is refused); 1 without it."""
    if data.edge_index is None:
        raise ValueError(f"{what} needs bonds in 'edge_index' (got {data})")
    order = data.edge_attr
    if order is None:
        order = data.edge_index.new_ones(data.edge_index.size(1))
    if order.dim() == 2 and order.size(1) == 4:
        order = order.argmax(dim=1) + 1
    if order.shape != data.edge_index.shape[1:] or not torch.isin(order, order.new_tensor([1, 2, 3])).all():
        raise ValueError(f"{what} needs bond orders 1, 2, 3 in 'edge_attr' [E] (got {order})")
    bonds = {}
    for u, v, k in zip(*data.edge_index.tolist(), order.tolist(), strict=True):
        if u == v or not (0 <= u < data.z.numel() and 0 <= v < data.z.numel()):
            raise ValueError(f"{what} has a bond between atoms {u} and {v} of {data.z.numel()}")
        bonds[min(u, v), max(u, v)] = int(k)
    return list(bonds), list(bonds.values())


def charges_of(data: Data) -> list[int] | None:
    r"""The formal charges ``data.charge`` [N], if it has them per atom."""
    charge = data.get('charge')
    return charge.tolist() if isinstance(charge, Tensor) and charge.shape == data.z.shape else None


def _perceive(mol: 'Mol', use_vdw: bool) -> 'Mol':
    from rdkit import rdBase
    from rdkit.Chem import rdDetermineBonds

    try:
        with rdBase.BlockLogs():
            rdDetermineBonds.DetermineBonds(mol, charge=0, useVdw=use_vdw, maxIterations=1000)
    except (ValueError, RuntimeError) as error:
        raise ValueError(f'RDKit finds no neutral molecule in these atoms: {error}') from error
    return mol
