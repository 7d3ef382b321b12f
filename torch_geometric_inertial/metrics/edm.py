r"""The rules of EDM (Hoogeboom et al., 2022, `arXiv:2203.17003 <https://arxiv.org/abs/2203.17003>`_): bonds by distance
tables, no charges."""
from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from torch_geometric_inertial.chem.bond_tables import Bonds, allowed_valences, pair_bonds, valences
from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.chem.verdicts import Verdict, judge_edm
from torch_geometric_inertial.metrics.figure import Figure, fraction
from torch_geometric_inertial.metrics.intervals import ratio_interval
from torch_geometric_inertial.metrics.preflight import Molecules, Screened, screen
from torch_geometric_inertial.metrics.processes import Failure, run_anywhere
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, get_protocol, graph_figures, judged_total


class EDMProtocol(Protocol):
    r"""Figures as EDM reports them:

    * ``atom_stability``: the bond orders of the atom add up to an allowed valence; of all atoms.
    * ``molecule_stability``: all its atoms are stable.
    * ``validity``: RDKit sanitizes the bonds; open valences may be filled with hydrogens that are not there.
    * ``connected``, ``valid_and_connected``: one piece.
    * ``uniqueness``, of the valid; ``valid_and_unique``: by the SMILES of the largest piece.

    Beside these, ``ok``: valid, in one piece, and nothing filled. One rule is added: one atom alone is no valid
    molecule.
    """
    single_bonds = False  #: Whether RDKit is told that all bonds are single, as EDM does for GEOM-Drugs.

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        bonds = pair_bonds(molecules.z, molecules.pairs)
        stable = _stability(molecules, bonds)
        verdicts = self._verdicts(molecules, bonds, workers)
        status = [found.status for found in verdicts]
        smiles = [found.smiles for found in verdicts]
        connected = [found.connected for found in verdicts]
        figures = graph_figures(status, smiles, connected)
        both = sum(one and s is not None for one, s in zip(connected, smiles, strict=True))
        counted = [name != 'unknown_element' for name in status]
        counts, totals = stable.num_stable[counted].tolist(), stable.num_atoms[counted].tolist()
        atoms = Figure(sum(counts) / sum(totals) if sum(totals) else None, 'atoms', count=sum(counts),
                       total=sum(totals), interval=ratio_interval(counts, totals))
        total = judged_total(status)
        names = ('ok', 'atom_stability', 'molecule_stability', 'validity', 'connected', 'valid_and_connected',
                 'uniqueness', 'valid_and_unique')
        figures |= {
            'atom_stability': atoms,
            'molecule_stability': fraction(int(stable.molecule.sum()), total),
            'valid_and_connected': fraction(both, total),
        }
        return Judged(status, smiles, {name: figures[name] for name in names}, {'stable': stable.molecule.tolist()})

    def _verdicts(self, molecules: Screened, bonds: Bonds, workers: int | None) -> list[Verdict]:
        z, ptr = molecules.z.tolist(), molecules.ptr.tolist()
        first = torch.searchsorted(bonds.ends[0].contiguous(), molecules.ptr).tolist()
        ends, order = bonds.ends.t().tolist(), bonds.order.tolist()
        verdicts = [Verdict(name) for name in molecules.status]
        chosen = [i for i, name in enumerate(molecules.status) if name == 'ok']
        calls = []
        for i in chosen:
            here, start = slice(first[i], first[i + 1]), ptr[i]
            local = [(u - start, v - start) for u, v in ends[here]]
            orders = [1] * len(local) if self.single_bonds else order[here]
            calls.append((Plain(z[start:ptr[i + 1]], None, local, orders), ))
        for i, found in zip(chosen, run_anywhere(judge_edm, calls, workers), strict=True):
            verdicts[i] = Verdict(found.status) if isinstance(found, Failure) else found
        return verdicts


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


def stability(molecules: Molecules, protocol: str = 'edm-qm9', num_requested: int | None = None) -> Stability:
    r"""EDM's stability without RDKit: quick enough to watch a model train.

    A molecule that failed (missing, empty, unfinished, not finite, an unknown element, a clash) is not stable. Its
    sound atoms count as they stand; an atom that is itself at fault is not stable.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å); :obj:`None` for a failed one.
        protocol: Whose elements are known: ``'edm-qm9'`` or ``'edm-geom'``.
        num_requested: The denominator; by default the number of molecules.

    Raises:
        ValueError: If a molecule is malformed, or more came than were requested.
    """
    screened = screen(molecules, get_protocol(protocol).elements, num_requested)
    return _stability(screened, pair_bonds(screened.z, screened.pairs))


def _stability(molecules: Screened, bonds: Bonds) -> Stability:
    z, ptr = molecules.z, molecules.ptr
    valence = valences(bonds, z.numel()).clamp(max=allowed_valences().size(1) - 1)
    atom = allowed_valences()[z, valence] & molecules.fit
    stable_before = torch.cat([ptr.new_zeros(1), atom.cumsum(0)])
    num_stable, num_atoms = stable_before[ptr].diff(), ptr.diff()
    ok = torch.tensor([name == 'ok' for name in molecules.status], dtype=torch.bool)
    return Stability(atom, (num_stable == num_atoms) & ok, num_stable, num_atoms)
