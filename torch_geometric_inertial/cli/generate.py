from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch_geometric.data import Data
from tqdm import tqdm

from torch_geometric_inertial.chem import Properties
from torch_geometric_inertial.cli.arguments import arguments, load_model, names
from torch_geometric_inertial.cli.files import write_molecules
from torch_geometric_inertial.refinement.generate import RefinementCounts, check_refinement, stream_refined


def generate(
    num_samples: int = 16,
    weights: str = 'qm9',
    out: Path = Path('molecules.sdf'),
    seed: int = 0,
    temperature: float = 1.0,
    place_temperature: float = 1.0,
    top_p: float = 1.0,
    num_steps: int | None = None,
    groups: list[str] | str | None = None,
    properties: dict[str, float] | None = None,
    guidance_scale: float = 1.0,
    valence_mask: bool = False,
    batch_size: int | None = None,
    max_atoms: int | None = None,
    shard: str = '0/1',
    keep: str = 'all',
    relax: str | None = None,
    workers: int = 1,
    device: str = 'cpu',
    animation: Path | None = None,
) -> None:
    r"""Writes new molecules to a file. Molecules go to the file as they are written, so that any number fits in memory.

    Example: inertial generate --num-samples 1000 --keep ok --relax mmff --out molecules.sdf

    Args:
        num_samples: How many, of all shards together; the number may also stand alone after the command.
        weights: A bundled name, a folder, or a hub id.
        out: SDF, XYZ or JSONL file.
        seed: Molecule i is a function of the seed and i.
        temperature: Of elements and parents; 0 takes the most likely.
        place_temperature: Scale of the noise that places are made of; less makes likelier places.
        top_p: Elements are drawn from the smallest set of at least this probability.
        num_steps: Evaluations of the diffusion head per atom.
        groups: Wanted functional groups by name, such as nitrile, or '[alcohol, amine]'.
        properties: Wanted values, such as '{gap: 6.5}'.
        guidance_scale: From unconditional (0) to conditional (1) and beyond.
        valence_mask: Keep a model that writes bonds from bonds that no valence is left for.
        batch_size: Molecules at a time.
        max_atoms: Molecules that reach it are cut off.
        shard: 'i/n' writes the i-th of n parts, i from 0; the parts in order are the whole.
        keep: all; or ok, which draws molecules that fail again: figures of the file are then not those of the model.
            How many failed is told on stderr.
        relax: mmff, MMFF94 of RDKit, or xtb, GFN2-xTB of tblite: the file has the relaxed places, and the generated
            ones as a property.
        workers: Processes to judge and to relax in.
        device: Such as 'cuda'.
        animation: A .gif or .html file that shows how the first molecule was written, atom by atom; without groups,
            properties, max_atoms, valence_mask, keep and relax.
    """
    with arguments():
        check_refinement(keep, relax, workers=workers)
        if animation is not None:
            from torch_geometric_inertial.report.animation import check_animation, write_animation

            check_animation(animation)
            for name, value, default in (('groups', groups, None), ('properties', properties, None),
                                         ('max_atoms', max_atoms, None), ('valence_mask', valence_mask, False),
                                         ('keep', keep, 'all'), ('relax', relax, None)):
                if value != default:
                    raise ValueError(f"'animation' cannot be given with '{name}' (got {value!r})")
    model = load_model(weights, device)
    part = parse_shard(shard)
    settings: dict[str, Any] = dict(groups=names(groups), properties=properties, guidance_scale=guidance_scale,
                                    temperature=temperature, place_temperature=place_temperature, top_p=top_p,
                                    num_steps=num_steps, valence_mask=valence_mask, seed=seed,
                                    batch_size=batch_size, max_atoms=max_atoms, shard=part)
    counts = RefinementCounts()
    if keep == 'all' and relax is None:
        molecules = model.stream(num_samples, **settings)
    else:
        molecules = stream_refined(model, num_samples, keep=keep, relax=relax, workers=workers, counts=counts,
                                   **settings)
    first, end = (num_samples * i // part[1] for i in (part[0], part[0] + 1))
    number = first - 1

    def titled() -> Iterator[Data]:
        nonlocal number
        for data in tqdm(molecules, total=end - first, unit='mol'):
            number = next(i for i in range(number + 1, end) if i not in counts.missing)
            data.title = f'molecule {number}'  # its number among those of all shards
            if 'pos_generated' in data:  # as a text, which files of all formats hold
                data.properties = Properties(dict(pos_generated='; '.join(
                    ' '.join(f'{x:.4f}' for x in xyz) for xyz in data.pos_generated.tolist())))
            yield data

    count = write_molecules(titled(), out)
    print(f'wrote {count} molecules to {out}')
    if animation is not None:
        write_animation(model.cpu(), animation, index=first, seed=seed, temperature=temperature,
                        place_temperature=place_temperature, top_p=top_p, num_steps=num_steps)
        print(f'wrote {animation}')
    if counts.drawn:
        print(counts, file=sys.stderr)


def parse_shard(shard: str) -> tuple[int, int]:
    r"""``'2/8'`` -> (2, 8).

    Raises:
        ValueError: If it is not two whole numbers with a slash between them.
    """
    first, _, last = shard.partition('/')
    if not (first.isdecimal() and last.isdecimal()):
        raise ValueError(f"'shard' must be 'i/n' (got '{shard}')")
    return int(first), int(last)
