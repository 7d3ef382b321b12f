r"""Atom and molecule stability of the EDM protocol."""
from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.chem.bond_tables import Bonds, allowed_valences, table_bonds, valences
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.metrics.screening import Molecules, Screened, screen


class Stability(NamedTuple):
    r"""``atom`` [T]: the atom's bond orders sum to an allowed valence. ``molecule`` [B]: all its atoms are stable and
    nothing else is wrong with it. ``num_stable``, ``num_atoms`` [B]: atoms counted per molecule.
    """
    atom: Tensor
    molecule: Tensor
    num_stable: Tensor
    num_atoms: Tensor

    @property
    def atom_share(self) -> float:
        """Stable atoms, of all atoms."""
        return float(self.num_stable.sum()) / max(int(self.num_atoms.sum()), 1)

    @property
    def molecule_share(self) -> float:
        """Stable molecules, of all requested."""
        return float(self.molecule.sum()) / max(self.molecule.numel(), 1)


def screened_stability(screened: Screened, bonds: Bonds) -> Stability:
    z, _, ptr, fit, status = screened
    valence = valences(bonds, z.numel()).clamp(max=allowed_valences().size(1) - 1)
    atom = allowed_valences()[z, valence] & fit
    stable_before = torch.cat([ptr.new_zeros(1), atom.cumsum(0)])
    num_stable, num_atoms = stable_before[ptr].diff(), ptr.diff()
    ok = torch.tensor([name == 'ok' for name in status], dtype=torch.bool)
    return Stability(atom, (num_stable == num_atoms) & ok, num_stable, num_atoms)


def stability(molecules: Molecules, protocol: str = 'edm-qm9', num_requested: int | None = None) -> Stability:
    r"""Stability without RDKit: quick enough to watch a model train.

    A molecule that failed (missing, empty, unfinished, not finite, an unknown element, coincident atoms) is not stable.
    Its sound atoms count as they stand; an atom that is itself at fault is not stable.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); :obj:`None` for a failed one.
        protocol: See :data:`PROTOCOLS`.
        num_requested: The denominator; by default the number of molecules.
    """
    screened = screen(molecules, get_protocol(protocol).elements, num_requested)
    return screened_stability(screened, table_bonds(screened.z, screened.pos, screened.ptr))
