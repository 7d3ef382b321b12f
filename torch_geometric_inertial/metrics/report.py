r"""One call that judges a set of molecules, and the report it returns."""
import dataclasses
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from torch_geometric_inertial.chem.bond_tables import table_bonds
from torch_geometric_inertial.chem.mol import rdkit_version
from torch_geometric_inertial.metrics.protocol import get_protocol
from torch_geometric_inertial.metrics.screening import Molecules, screen
from torch_geometric_inertial.metrics.stability import Stability, screened_stability
from torch_geometric_inertial.metrics.uniqueness import novelty, reference_smiles, uniqueness
from torch_geometric_inertial.metrics.validity import screened_validity

#: The figures of a report, in the order in which they are printed, with what each is a share of.
FIGURES: dict[str, str] = {
    'atom_stability': 'atoms',
    'molecule_stability': 'requested',
    'validity': 'requested',
    'connected': 'requested',
    'valid_and_connected': 'requested',
    'uniqueness': 'valid',
    'valid_and_unique': 'requested',
    'novelty': 'unique',
}


@dataclass(frozen=True)
class Report:
    r"""Figures of a set of molecules under a named protocol. All are shares in [0, 1]; the denominator is the number of
    molecules *requested*, unless :data:`FIGURES` names another.

    Args:
        protocol: Id of the protocol.
        protocol_version: Its version.
        rdkit_version: The RDKit that judged.
        num_requested: The denominator.
        num_atoms: Atoms in all molecules that came.
        atom_stability: Atoms whose bond orders sum to an allowed valence.
        molecule_stability: Molecules all of whose atoms are stable.
        validity: Molecules that RDKit sanitises.
        connected: Molecules in one piece.
        valid_and_connected: Both.
        uniqueness: Different SMILES, of the valid.
        valid_and_unique: Different SMILES, of the requested.
        novelty: Different SMILES that are not in the reference, of the different ones; :obj:`None` without a reference.
        intervals: 95 % confidence interval of each figure that is a mean over molecules: Wilson's for shares of
            molecules, the ratio estimator's, with molecules as units, for atoms.
        status: Verdict on each molecule.
        stable: Whether each molecule is stable.
        smiles: SMILES of each valid molecule's largest fragment.
    """
    protocol: str
    protocol_version: int
    rdkit_version: str
    num_requested: int
    num_atoms: int
    atom_stability: float
    molecule_stability: float
    validity: float
    connected: float
    valid_and_connected: float
    uniqueness: float
    valid_and_unique: float
    novelty: float | None
    intervals: dict[str, tuple[float, float]]
    status: tuple[str, ...]
    stable: tuple[bool, ...]
    smiles: tuple[str | None, ...]

    def to_dict(self) -> dict:
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        return json.dumps(self.to_dict())

    @classmethod
    def from_json(cls, text: str) -> 'Report':
        fields = json.loads(text)
        fields['intervals'] = {name: tuple(ends) for name, ends in fields['intervals'].items()}
        for name in ('status', 'stable', 'smiles'):
            fields[name] = tuple(fields[name])
        return cls(**fields)

    def failures(self) -> dict[str, int]:
        """How many molecules have each status, commonest first."""
        return dict(Counter(self.status).most_common())

    def __str__(self) -> str:
        rows = [f'{"":20} {"%":>6}  95 % interval', *(self._row(name) for name in FIGURES)]
        counts = ', '.join(f'{count} {name}' for name, count in self.failures().items())
        return '\n'.join([_heading(self), *rows, f'verdicts: {counts}'])

    def _row(self, name: str) -> str:
        ends = self.intervals.get(name)
        interval = '' if ends is None else f'  {100 * ends[0]:6.2f} – {100 * ends[1]:6.2f}'
        return f'{name.replace("_", " "):20} {_percent(getattr(self, name))}{interval}'


def comparison(reports: Mapping[str, Report]) -> str:
    r"""A table with a column for each report.

    Raises:
        ValueError: If the reports are of different protocols, or there is none.
    """
    if not reports:
        raise ValueError("'reports' must hold at least one report (got none)")
    kinds = {name: (report.protocol, report.protocol_version) for name, report in reports.items()}
    if len(set(kinds.values())) > 1:
        listed = ', '.join(f'{name}: {kind[0]} v{kind[1]}' for name, kind in kinds.items())
        raise ValueError(f'reports of different protocols cannot be compared ({listed})')
    width = max(8, *(len(name) for name in reports)) + 2
    columns = list(reports.values())
    lines = [_heading(columns[0], with_number=False), ' ' * 20 + ''.join(f'{name:>{width}}' for name in reports)]
    for name in FIGURES:
        cells = ''.join(f'{_percent(getattr(report, name)):>{width}}' for report in columns)
        lines.append(f'{name.replace("_", " "):20}{cells}')
    lines.append(f'{"requested":20}' + ''.join(f'{report.num_requested:>{width}}' for report in columns))
    return '\n'.join(lines)


def evaluate(
    molecules: Molecules,
    protocol: str = 'edm-qm9',
    reference: Molecules | frozenset[str] | set[str] | None = None,
    num_requested: int | None = None,
) -> Report:
    r"""Judges generated molecules. Whatever failed counts as a failure: the denominator is the number requested.

    Args:
        molecules: Molecules with ``z`` [N] and ``pos`` [N, 3] (Å), and ``finished`` where a model says so; :obj:`None`
            for a failed one.
        protocol: ``'edm-qm9'`` or ``'edm'``; see :data:`PROTOCOLS`.
        reference: Known molecules, or their SMILES from :func:`reference_smiles`, for the novelty.
        num_requested: How many molecules were asked for; by default as many as are given.

    Raises:
        ValueError: On an unknown protocol, malformed molecules, no molecules, or more molecules than requested.
        ImportError: Without RDKit.
    """
    rules, version = get_protocol(protocol), rdkit_version()
    screened = screen(molecules, rules.elements, num_requested)
    num = len(screened.status)
    if num == 0:
        raise ValueError("'molecules' must hold at least one molecule, or 'num_requested' be at least 1 (got none)")
    bonds = table_bonds(screened.z, screened.pos, screened.ptr)
    stable = screened_stability(screened, bonds)
    valid = screened_validity(screened, bonds)

    num_valid = sum(smiles is not None for smiles in valid.smiles)
    num_unique = len({smiles for smiles in valid.smiles if smiles is not None})
    counts = {
        'molecule_stability': int(stable.molecule.sum()),
        'validity': num_valid,
        'connected': sum(valid.connected),
        'valid_and_connected': valid.status.count('ok'),
    }
    intervals = {name: wilson_interval(count, num) for name, count in counts.items()}
    intervals['atom_stability'] = _atom_interval(stable)
    new = None if reference is None else novelty(valid.smiles, reference_smiles(reference, protocol))

    return Report(
        protocol=rules.name,
        protocol_version=rules.version,
        rdkit_version=version,
        num_requested=num,
        num_atoms=int(stable.num_atoms.sum()),
        atom_stability=stable.atom_share,
        **{name: count / num for name, count in counts.items()},
        uniqueness=uniqueness(valid.smiles),
        valid_and_unique=num_unique / num,
        novelty=new,
        intervals=intervals,
        status=tuple(valid.status),
        stable=tuple(stable.molecule.tolist()),
        smiles=tuple(valid.smiles),
    )


def wilson_interval(count: int, total: int) -> tuple[float, float]:
    """95 % confidence interval of a share (Wilson, 1927)."""
    z2 = 1.959964**2
    share = count / total
    centre = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = math.sqrt(z2 * (share * (1 - share) / total + z2 / (4 * total**2))) / (1 + z2 / total)
    return max(0.0, centre - half), min(1.0, centre + half)


def _atom_interval(stable: Stability) -> tuple[float, float]:
    """Atoms of a molecule stand or fall together, so the molecules are the units: linearised ratio estimator."""
    share, atoms = stable.atom_share, max(int(stable.num_atoms.sum()), 1)
    residual = stable.num_stable.double() - share * stable.num_atoms
    half = 1.959964 * float(residual.square().sum().sqrt()) / atoms
    return max(0.0, share - half), min(1.0, share + half)


def _percent(share: float | None) -> str:
    return f'{"–":>6}' if share is None else f'{100 * share:6.2f}'


def _heading(report: Report, with_number: bool = True) -> str:
    number = f', {report.num_requested} requested' if with_number else ''
    return f'{report.protocol} v{report.protocol_version}, RDKit {report.rdkit_version}{number}'
