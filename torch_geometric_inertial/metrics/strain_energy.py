r"""How far molecules are from a minimum of the energy."""
from __future__ import annotations

from torch_geometric_inertial.chem.minimize import Minimum
from torch_geometric_inertial.chem.verdicts import Verdict, judge_bonds
from torch_geometric_inertial.metrics.figure import fraction, mean, median
from torch_geometric_inertial.metrics.own_bonds import judge_graphs, own_bonds
from torch_geometric_inertial.metrics.preflight import Screened
from torch_geometric_inertial.metrics.processes import Failure, run
from torch_geometric_inertial.metrics.protocol import Judged, Protocol, judged_total


class StrainProtocol(Protocol):
    r"""The energy that a molecule loses when it relaxes, and the RMSD between the two geometries, of the molecules that
    are ``ok`` by their own bonds and whose relaxation ended in a minimum.

    * ``relaxed``: share of the requested molecules of which there are such figures; the means are over these.
    * ``strain``, ``strain_per_atom`` (kcal/mol), ``rmsd`` (Å): means, and medians, which a few explosions do not move.
    """
    needs_bonds = True
    function: str  #: Of :mod:`torch_geometric_inertial.chem.minimize`.
    max_steps: int
    seconds: float  #: Time limit of a molecule.

    def judge(self, molecules: Screened, workers: int | None) -> Judged:
        own = own_bonds(molecules)
        verdicts = judge_graphs(own, judge_bonds, None)
        chosen = [(i, plain) for i, (one, plain) in enumerate(zip(verdicts, own.plain, strict=True))
                  if one.status == 'ok' and plain is not None]
        calls = [(plain, self.max_steps) for _, plain in chosen]
        found = run(f'torch_geometric_inertial.chem.minimize:{self.function}', calls, workers or 1, self.seconds)
        columns: dict[str, list[float | None]] = {
            name: [None] * len(verdicts) for name in ('strain', 'strain_per_atom', 'rmsd')}
        for (i, plain), one in zip(chosen, found, strict=True):
            if isinstance(one, Failure):
                verdicts[i] = Verdict(one.status, verdicts[i].smiles, True)
            elif isinstance(one, Minimum) and one.converged:
                for name, value in (('strain', one.energy_drop), ('strain_per_atom', one.energy_drop / len(plain.z)),
                                    ('rmsd', one.rmsd)):
                    columns[name][i] = value
        status = [one.status for one in verdicts]
        kept = {name: [x for x in column if x is not None] for name, column in columns.items()}
        of = 'relaxed molecules'
        figures = {'ok': fraction(status.count('ok'), judged_total(status)),
                   'relaxed': fraction(len(kept['strain']), judged_total(status))}
        for name, unit in (('strain', 'kcal/mol'), ('strain_per_atom', 'kcal/mol'), ('rmsd', 'Å')):
            figures |= {name: mean(kept[name], unit, of), f'{name}_median': median(kept[name], unit, of)}
        return Judged(status, [one.smiles for one in verdicts], figures, columns)
