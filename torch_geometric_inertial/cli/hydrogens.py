from __future__ import annotations

from pathlib import Path

from torch_geometric.transforms import Compose

from torch_geometric_inertial.cli.files import read_molecules, write_molecules
from torch_geometric_inertial.models import AtomAutoregressor
from torch_geometric_inertial.transforms import CanonicalOrder, InertialFrame


def hydrogens(
    file: Path,
    weights: str = 'qm9-heavy-first',
    out: Path = Path('hydrogens.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    num_steps: int | None = None,
    batch_size: int | None = None,
    device: str = 'cpu',
) -> None:
    r"""Places the hydrogens of molecules that lack some or all; the atoms that are there stay where they are.

    Args:
        file: SDF, XYZ, JSONL or PDB.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: The places are a function of it.
        temperature: Of the decision to place another; 0 takes the most likely.
        num_steps: Evaluations of the diffusion head per atom.
        batch_size: Molecules at a time.
        device: Such as 'cuda'.
    """
    model = AtomAutoregressor.from_pretrained(weights, device=device)
    heavy = read_molecules(file)
    canonical = Compose([InertialFrame(), CanonicalOrder(order='heavy_first')])
    written = model.add_hydrogens(heavy, seed=seed, temperature=temperature, num_steps=num_steps,
                                  batch_size=batch_size, canonical=canonical)
    added = sum(data.z.numel() for data in written) - sum(data.z.numel() for data in heavy)
    print(f'wrote {write_molecules(written, out)} molecules with {added} new hydrogens to {out}')
