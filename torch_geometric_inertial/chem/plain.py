r"""A molecule as plain numbers: what a process that has not imported torch can work on."""
from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch_geometric_inertial.chem.graph import build_mol

if TYPE_CHECKING:
    from rdkit.Chem import Mol


class Plain(NamedTuple):
    r"""Atomic numbers ``z``, positions ``pos`` (Å), pairs of atoms ``bonds`` with their ``orders`` (1, 2, 3), formal
    ``charges`` (none: all are zero)."""
    z: list[int]
    pos: list[list[float]] | None
    bonds: Sequence[tuple[int, int]] = ()
    orders: Sequence[int] = ()
    charges: list[int] | None = None


def plain_mol(molecule: Plain, implicit_hydrogens: bool = False) -> Mol:
    r"""Its unsanitized RDKit molecule; see :func:`build_mol`."""
    return build_mol(molecule.z, list(molecule.bonds), list(molecule.orders), molecule.pos, molecule.charges,
                     implicit_hydrogens)
