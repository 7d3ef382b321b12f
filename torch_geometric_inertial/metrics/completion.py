r"""Molecules that were grown from a fragment: do they contain it, are they valid, are they different?"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch_geometric.data import Data

from torch_geometric_inertial.metrics.evaluate import judge
from torch_geometric_inertial.metrics.hydrogens import hydrogen_rmsd
from torch_geometric_inertial.metrics.protocol import get_protocol


def contains(molecule: Data | None, fragment: Data, tolerance: float = 1e-3) -> bool:
    r"""Whether the molecule has all atoms of the fragment where they were: RMSD below :obj:`tolerance` (Å) of the
    nearest atoms of the same element."""
    if molecule is None or not bool(molecule.pos.isfinite().all()):
        return False
    distance = (fragment.pos.double().unsqueeze(1) - molecule.pos.double()).norm(dim=-1)
    distance = distance.masked_fill(fragment.z.unsqueeze(1) != molecule.z, torch.inf)
    if distance.size(1) < distance.size(0):
        return False
    nearest = distance.argmin(dim=1)
    found = Data(z=molecule.z[nearest], pos=molecule.pos[nearest])
    return nearest.unique().numel() == nearest.numel() and hydrogen_rmsd(found, fragment) < tolerance


@dataclass(frozen=True)
class CompletionReport:
    r"""Molecules grown from fragments; all shares are of the molecules asked for.

    Args:
        num_requested: How many.
        containing: Share that contains its fragment, unmoved.
        valid: Share that RDKit sanitises.
        valid_and_connected: Share that is valid and in one piece.
        unique: Different SMILES, of the valid ones.
        grown: Share with a heavy atom more than the fragment.
    """
    num_requested: int
    containing: float
    valid: float
    valid_and_connected: float
    unique: float
    grown: float

    def __str__(self) -> str:
        shares = ', '.join(f'{name.replace("_", " ")} {getattr(self, name):.3f}'
                           for name in ('containing', 'valid', 'valid_and_connected', 'unique', 'grown'))
        return f'{shares}; n = {self.num_requested}'


def completion_report(molecules: Sequence[Data | None], fragments: Data | Sequence[Data],
                      protocol: str = 'edm-qm9') -> CompletionReport:
    r"""Judges molecules that were grown from fragments.

    Args:
        molecules: What came, in the coordinates of the fragments; :obj:`None` for a failed one.
        fragments: One for all, or one each.
        protocol: See :func:`~torch_geometric_inertial.metrics.evaluate`.

    Raises:
        ValueError: If the numbers differ, or there is no molecule.
        ImportError: Without RDKit.
    """
    fragments = [fragments] * len(molecules) if isinstance(fragments, Data) else list(fragments)
    num = len(molecules)
    if num == 0 or len(fragments) != num:
        raise ValueError(f"'molecules' must be at least one, and 'fragments' one or as many "
                         f'(got {num} and {len(fragments)})')
    report = judge(list(molecules), get_protocol(protocol))
    smiles = [s for s in report.smiles if s is not None]
    pairs = list(zip(molecules, fragments, strict=True))
    grown = [m is not None and int((m.z > 1).sum()) > int((f.z > 1).sum()) for m, f in pairs]
    return CompletionReport(num, sum(contains(m, f) for m, f in pairs) / num, len(smiles) / num,
                            report.valid_and_connected or 0.0, len(set(smiles)) / max(len(smiles), 1),
                            sum(grown) / num)
