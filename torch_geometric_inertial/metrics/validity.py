r"""Validity of the EDM protocol: RDKit sanitises the molecule that the distance tables bond."""
from typing import NamedTuple

import torch

from torch_geometric_inertial.chem.bond_tables import Bonds, table_bonds
from torch_geometric_inertial.chem.graph import build_mol
from torch_geometric_inertial.chem.mol import largest_fragment
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.metrics.screening import Molecules, Screened, screen


class Validity(NamedTuple):
    r"""Per molecule: ``status`` (``'ok'``: valid and connected, ``'disconnected'``: valid and in pieces, ``'invalid'``:
    RDKit refuses it, else the failure found by screening); ``smiles``, of the largest fragment with its hydrogens
    written out, :obj:`None` if not valid; ``connected``, whether the bonds hold it together.
    """
    status: list[str]
    smiles: list[str | None]
    connected: list[bool]


def screened_validity(screened: Screened, bonds: Bonds) -> Validity:
    z, ptr = screened.z.tolist(), screened.ptr.tolist()
    first_bond = torch.searchsorted(bonds.ends[0].contiguous(), screened.ptr).tolist()
    index, order = bonds.ends.t().tolist(), bonds.order.tolist()

    out = Validity([], [], [])
    for i, status in enumerate(screened.status):
        smiles, connected = None, False
        if status == 'ok':
            here = slice(first_bond[i], first_bond[i + 1])
            local = [(u - ptr[i], v - ptr[i]) for u, v in index[here]]
            mol = build_mol(z[ptr[i]:ptr[i + 1]], local, order[here], implicit_hydrogens=True)
            connected, smiles = largest_fragment(mol)
            status = 'invalid' if smiles is None else 'ok' if connected else 'disconnected'
        out.status.append(status)
        out.smiles.append(smiles)
        out.connected.append(connected)
    return out


def validity(molecules: Molecules, protocol: str = 'edm-qm9', num_requested: int | None = None) -> Validity:
    r"""The verdict and the SMILES of every molecule; see :class:`Validity`.

    As in EDM, RDKit may fill open valences with hydrogens of its own, and charges are not considered.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); :obj:`None` for a failed one.
        protocol: See :data:`PROTOCOLS`.
        num_requested: The denominator; by default the number of molecules.

    Raises:
        ImportError: Without RDKit.
    """
    screened = screen(molecules, get_protocol(protocol).elements, num_requested)
    return screened_validity(screened, table_bonds(screened.z, screened.pos, screened.ptr))
