r"""The checks of PoseBusters."""
from __future__ import annotations

from torch_geometric_inertial.chem.verdicts import Verdict, judge_bonds
from torch_geometric_inertial.metrics.figure import fraction
from torch_geometric_inertial.metrics.own_bonds import judge_graphs, own_bonds
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.processes import Failure, run
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, judged_total

FUNCTION = 'torch_geometric_inertial.chem.busters:bust'


class PoseBusters(Protocol):
    r"""PoseBusters with its configuration ``mol`` (Buttenschoen et al., 2024, `doi:10.1039/D3SC04185A
    <https://doi.org/10.1039/D3SC04185A>`_), molecule by molecule, each with a limit of time, so that none takes the
    others with it.

    * ``ok``: passes every check but the energy's; else ``'implausible'``, where the bonds are right.
    * ``with_energy``: passes the energy check, too: at most 100 times the mean energy of 50 conformers. It stands apart
      since it fails small molecules whose mean energy is near zero, and cages of which no conformers are found in time.
    * each check by its name, of the molecules that have it.

    The molecule's own bonds count. What fails under protocol ``bonds`` is not looked at: it would fail here.
    """
    name = 'posebusters'
    version = 1
    packages = ('rdkit', 'posebusters')
    compared_within = ('posebusters', )
    needs_bonds = True
    seconds = 120.0  #: Time limit of a molecule.
    energy_seconds = 30.0  #: Of its energy check: RDKit may look for conformers of a cage without end.

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        own = own_bonds(molecules)
        verdicts = judge_graphs(own, judge_bonds, None)
        chosen = [i for i, one in enumerate(verdicts) if one.status == 'ok']
        checks, energies = (run(FUNCTION, [(own.plain[i], energy) for i in chosen], workers or 1, seconds)
                            for energy, seconds in ((False, self.seconds), (True, self.energy_seconds)))
        passed: dict[str, list[bool | None]] = {}
        for i, found, energy in zip(chosen, checks, energies, strict=True):
            if isinstance(found, Failure):
                verdicts[i] = Verdict(found.status, verdicts[i].smiles, True)
                continue
            if not all(result is not False for result in found.values()):
                verdicts[i] = verdicts[i]._replace(status='implausible')
            for name, result in (found | ({} if isinstance(energy, Failure) else energy)).items():
                passed.setdefault(name, [None] * len(verdicts))[i] = result
        status = [one.status for one in verdicts]
        total = judged_total(status)
        energy_ok = passed.get('internal_energy', [None] * len(status))
        both = sum(name == 'ok' and good is True for name, good in zip(status, energy_ok, strict=True))
        figures = {'ok': fraction(status.count('ok'), total), 'with_energy': fraction(both, total)}
        for name, results in passed.items():
            made = [result for result in results if result is not None]
            figures[name] = fraction(sum(made), len(made), 'checked')
        return Judged(status, [one.smiles for one in verdicts], figures, dict(passed))


PROTOCOL = PoseBusters()
