from __future__ import annotations

from pathlib import Path

from torch_geometric_inertial.cli.files import read_molecules, write_molecules
from torch_geometric_inertial.models import AtomAutoregressor


def complete(
    file: Path,
    num_samples: int = 16,
    weights: str = 'qm9-heavy-first',
    out: Path = Path('completed.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    num_steps: int | None = None,
    batch_size: int | None = None,
    max_atoms: int | None = None,
    device: str = 'cpu',
) -> None:
    r"""Grows molecules from a part, whose atoms stay where they are.

    Args:
        file: The parts: SDF, XYZ, JSONL or PDB, with or without hydrogens.
        num_samples: Molecules a part.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: The molecules are a function of it.
        temperature: Of elements and parents; 0 takes the most likely.
        num_steps: Evaluations of the diffusion head per atom.
        batch_size: Molecules at a time.
        max_atoms: Molecules that reach it are cut off.
        device: Such as 'cuda'.
    """
    model = AtomAutoregressor.from_pretrained(weights, device=device)
    scaffolds = read_molecules(file)
    molecules = (data for scaffold in scaffolds
                 for data in model.complete(scaffold, num_samples, seed=seed, temperature=temperature,
                                            num_steps=num_steps, batch_size=batch_size, max_atoms=max_atoms))
    print(f'wrote {write_molecules(molecules, out)} molecules around {len(scaffolds)} parts to {out}')
