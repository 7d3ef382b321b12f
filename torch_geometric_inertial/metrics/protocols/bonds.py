r"""The molecule's own bonds and charges."""
from __future__ import annotations

from torch_geometric_inertial.chem.verdicts import judge_bonds
from torch_geometric_inertial.metrics.own_bonds import judge_graphs, own_bonds
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, graph_figures


class Bonds(Protocol):
    r"""Bonds, orders and formal charges as the molecule, or its file, has them. A molecule is

    * valid, if RDKit sanitizes it as it stands, with no hydrogen added and no electron unpaired, no two atoms clash,
      and its bonds have the lengths of bonds;
    * ``ok``, if it is valid and in one piece.

    Nothing is guessed from distances, so that elements, charges and large molecules are no obstacle.
    """
    name = 'bonds'
    version = 1
    needs_bonds = True

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        verdicts = judge_graphs(own_bonds(molecules), judge_bonds, workers)
        status = [one.status for one in verdicts]
        smiles = [one.smiles for one in verdicts]
        return Judged(status, smiles, graph_figures(status, smiles, [one.connected for one in verdicts]), {})


PROTOCOL = Bonds()
