r"""Stability with aromatic bonds counted apart, the present standard on GEOM-Drugs."""
from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from torch_geometric_inertial.chem.verdicts import judge_table
from torch_geometric_inertial.elements import ATOMIC_NUMBERS
from torch_geometric_inertial.metrics.figure import Figure, fraction
from torch_geometric_inertial.metrics.intervals import ratio_interval
from torch_geometric_inertial.metrics.own_bonds import judge_graphs, own_bonds
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, atomic_numbers, graph_figures, judged_total


class GEOMRevisited(Protocol):
    r"""The rules of *GEOM-Drugs revisited* (`arXiv:2505.00169 <https://arxiv.org/abs/2505.00169>`_). The molecule's own
    bonds and charges count; the number of aromatic bonds of an atom together with the sum of the orders of its other
    bonds must be one that the authors found in the cleaned set.

    * ``atom_stability``, ``molecule_stability``: by their table.
    * ``validity``: RDKit sanitizes the molecule, and no electron is unpaired; ``connected``: one piece.
    * ``ok``: all of these, and no clash.

    Aromaticity is RDKit's, so that Kekulé and aromatic bonds give one verdict. The table has no neutral sulfur of
    valence 4: sulfoxides drawn S=O are not stable. It has artifacts, too, such as neutral sulfur of valence 3, which
    are then found to be radicals.
    """
    name = 'geom-revisited'
    version = 1
    elements = atomic_numbers('H B C N O F Si P S Cl Br I Bi')
    needs_bonds = True

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        verdicts = judge_graphs(own_bonds(molecules), judge_table, workers, valence_table())
        status = [one.status for one in verdicts]
        smiles = [one.smiles for one in verdicts]
        sizes = molecules.ptr.diff().tolist()
        counted = [i for i, name in enumerate(status) if name != 'unknown_element']
        stable, atoms = [verdicts[i].stable for i in counted], [sizes[i] for i in counted]
        whole = [verdicts[i].stable == sizes[i] > 0 for i in range(len(status))]
        figures = graph_figures(status, smiles, [one.connected for one in verdicts])
        figures |= {
            'atom_stability': Figure(sum(stable) / sum(atoms) if sum(atoms) else None, 'atoms', count=sum(stable),
                                     total=sum(atoms), interval=ratio_interval(stable, atoms)),
            'molecule_stability': fraction(sum(whole), judged_total(status)),
        }
        return Judged(status, smiles, figures, {'stable': whole})


@cache
def valence_table() -> dict[int, dict[int, list[tuple[int, int]]]]:
    r"""Element -> charge -> pairs (aromatic bonds, sum of the other orders)."""
    text = files('torch_geometric_inertial.metrics').joinpath('valences_geom.json').read_text()
    return {ATOMIC_NUMBERS[symbol]: {int(charge): [tuple(pair) for pair in pairs] for charge, pairs in row.items()}
            for symbol, row in json.loads(text).items() if symbol in ATOMIC_NUMBERS}


PROTOCOL = GEOMRevisited()
