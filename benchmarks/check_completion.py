r"""Molecules grown from rings and from parts of QM9 test molecules: do they hold it, are they valid, do they differ?

    python benchmarks/check_completion.py --weights qm9 [--num-samples 100]

A part of a test molecule is what is left when a random single bond in no ring, between heavy atoms, is cut: the side
with more heavy atoms, without hydrogens (with all of its own for `--hydrogens`, so that it can grow at the cut alone).
Bonds are those of the EDM distance tables; molecules that these make impossible, or that have no such bond, are
passed over. `valid` is that of the EDM protocol (RDKit sanitizes the molecule of the table's bonds), `unique` of
the valid ones: of all samples around one ring, and of the samples around one part, averaged over the parts.
"""
import argparse
import sys
import time
from pathlib import Path

import torch
from check_hydrogens import molecules_of_test
from qm9_arrays import FOLDER, machine
from torch_geometric.data import Data

from torch_geometric_inertial.chem import cut_bond
from torch_geometric_inertial.metrics import completion_report
from torch_geometric_inertial.models import AtomAutoregressor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'examples'))
from scaffold import RINGS, ring


def parts_of_test(folder: Path, elements: tuple[int, ...], num: int, hydrogens: bool, seed: int) -> list[Data]:
    generator = torch.Generator().manual_seed(seed)
    parts: list[Data] = []
    for data in molecules_of_test(folder, elements, 4 * num, seed)[0]:
        if len(parts) == num:
            break
        try:
            part = cut_bond(data, generator)
        except ValueError:
            continue
        if part is not None:
            keep = part.z > (0 if hydrogens else 1)
            parts.append(Data(z=part.z[keep], pos=part.pos[keep]))
    return parts


def size(molecules: list[Data]) -> str:
    heavy = sum(int((data.z > 1).sum()) for data in molecules) / len(molecules)
    return f'{sum(data.num_nodes for data in molecules) / len(molecules):.1f} atoms, {heavy:.1f} heavy'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--data', type=Path, default=FOLDER)
    parser.add_argument('--num-samples', type=int, default=100, help='molecules a ring')
    parser.add_argument('--num-parts', type=int, default=100)
    parser.add_argument('--samples-a-part', type=int, default=5)
    parser.add_argument('--hydrogens', action='store_true', help='parts keep their hydrogens')
    parser.add_argument('--temperature', type=float, default=1.0)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    model = AtomAutoregressor.from_pretrained(args.weights)
    settings = dict(temperature=args.temperature, seed=args.seed)
    print(f"{machine()}\n'{args.weights}', order '{model.config.order}', temperature {args.temperature:g}")
    for name in RINGS:
        scaffold = ring(name)
        unknown = sorted(set(scaffold.z.tolist()) - set(model.elements))
        if unknown:
            print(f'{name:16}left out: the weights do not know the elements {unknown}')
            continue
        start = time.monotonic()
        molecules = model.complete(scaffold, args.num_samples, **settings)
        print(f'{name:16}{completion_report(molecules, scaffold)}; {size(molecules)}; '
              f'{time.monotonic() - start:.1f} s', flush=True)
    parts = parts_of_test(args.data, model.elements, args.num_parts, args.hydrogens, args.seed)
    start = time.monotonic()
    around = [model.complete(part, args.samples_a_part, **settings) for part in parts]
    reports = [completion_report(molecules, part) for molecules, part in zip(around, parts, strict=True)]
    molecules = [data for group in around for data in group]
    report = completion_report(molecules, [part for part in parts for _ in range(args.samples_a_part)])
    differ = sum(r.unique for r in reports if r.valid > 0) / max(sum(r.valid > 0 for r in reports), 1)
    print(f'{len(parts)} parts of QM9 {report}; {size(molecules)}; parts of {size(parts)}; unique around a part '
          f'{differ:.3f}; {time.monotonic() - start:.1f} s')


if __name__ == '__main__':
    main()
