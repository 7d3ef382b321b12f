from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.cli.arguments import load_model, names
from torch_geometric_inertial.cli.files import write_molecules


def generate(
    num_samples: int = 16,
    weights: str = 'qm9',
    out: Path = Path('molecules.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    num_steps: int | None = None,
    groups: list[str] | str | None = None,
    properties: dict[str, float] | None = None,
    guidance_scale: float = 1.0,
    batch_size: int | None = None,
    max_atoms: int | None = None,
    shard: str = '0/1',
    device: str = 'cpu',
) -> None:
    r"""Writes new molecules to a file. Molecules go to the file as they are written, so that any number fits in memory.

    Example: inertial generate --num-samples 1000 --out molecules.sdf

    Args:
        num_samples: How many, of all shards together; the number may also stand alone after the command.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: Molecule i is a function of the seed and i.
        temperature: Of elements and parents; 0 takes the most likely.
        top_p: Elements are drawn from the smallest set of at least this probability.
        num_steps: Evaluations of the diffusion head per atom.
        groups: Wanted functional groups by name, such as nitrile, or '[alcohol, amine]'.
        properties: Wanted values, such as '{gap: 6.5}'.
        guidance_scale: From unconditional (0) to conditional (1) and beyond.
        batch_size: Molecules at a time.
        max_atoms: Molecules that reach it are cut off.
        shard: 'i/n' writes the i-th of n parts, i from 0; the parts in order are the whole.
        device: Such as 'cuda'.
    """
    model = load_model(weights, device)
    part = parse_shard(shard)
    molecules = model.stream(num_samples, groups=names(groups), properties=properties, guidance_scale=guidance_scale,
                             temperature=temperature, top_p=top_p, num_steps=num_steps, seed=seed,
                             batch_size=batch_size, max_atoms=max_atoms, shard=part)
    first, end = (num_samples * i // part[1] for i in (part[0], part[0] + 1))

    def titled() -> Iterator[Data]:
        for i, data in enumerate(tqdm(molecules, total=end - first, unit='mol'), first):
            data.title = f'molecule {i}'  # its number among those of all shards
            yield data

    count = write_molecules(titled(), out)
    print(f'wrote {count} molecules to {out}')


def parse_shard(shard: str) -> tuple[int, int]:
    r"""``'2/8'`` -> (2, 8).

    Raises:
        ValueError: If it is not two whole numbers with a slash between them.
    """
    first, _, last = shard.partition('/')
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"'shard' must be 'i/n' (got '{shard}')")
    return int(first), int(last)
