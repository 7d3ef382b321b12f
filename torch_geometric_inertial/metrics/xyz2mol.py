r"""Bonds perceived by RDKit, the protocol of Symphony and Quetzal."""
from __future__ import annotations

from torch_geometric_inertial.chem.plain import Plain
from torch_geometric_inertial.chem.verdicts import Verdict
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.processes import Failure, run
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, atomic_numbers, graph_figures

#: Bond orders that RDKit tries before it gives up. More molecules are found with more; 1,000 take 0.03 s.
MAX_ITERATIONS = 1000


class XYZ2Mol(Protocol):
    r"""RDKit looks for the bonds of a neutral molecule (``DetermineBonds`` with charge 0) in a process of its own, with
    bounds on its tries and its time (status ``'timeout'``).

    * ``validity``: it finds a molecule with at least one bond and a SMILES, as published.
    * ``connected``: in one piece; ``ok``: valid, in one piece, no electron unpaired.

    The figures depend on the version of RDKit, so that reports are compared within one only.
    """
    elements = atomic_numbers('H B C N O F Si P S Cl Ge As Se Br Sn Sb Te I Pb Bi')
    compared_within = ('rdkit', )
    use_vdw: bool
    seconds = 60.0  #: Time limit of a molecule.

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        z, pos, ptr = molecules.z.tolist(), molecules.pos.tolist(), molecules.ptr.tolist()
        chosen = [i for i, name in enumerate(molecules.status) if name == 'ok']
        calls = [(Plain(z[ptr[i]:ptr[i + 1]], pos[ptr[i]:ptr[i + 1]]), self.use_vdw, MAX_ITERATIONS) for i in chosen]
        verdicts = [Verdict(name) for name in molecules.status]
        found = run('torch_geometric_inertial.chem.perceive:perceive', calls, workers or 1, self.seconds)
        for i, one in zip(chosen, found, strict=True):
            verdicts[i] = Verdict(one.status) if isinstance(one, Failure) else one
        status = [one.status for one in verdicts]
        smiles = [one.smiles for one in verdicts]
        return Judged(status, smiles, graph_figures(status, smiles, [one.connected for one in verdicts]), {})
