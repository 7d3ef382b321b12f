r"""Molecules around a scaffold that stays where it is.

    python examples/scaffold.py                            benzene, 1,2,4-triazole and thiophene
    python examples/scaffold.py --scaffold core.sdf        around the first molecule of a file (SDF, XYZ or PDB)
    python examples/scaffold.py --model Quetzal --weights FOLDER
"""
import argparse
import math
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial import models
from torch_geometric_inertial.chem import draw_grid, read_pdb, read_sdf, read_xyz, write_sdf
from torch_geometric_inertial.metrics import completion_report

READERS = {'.sdf': read_sdf, '.mol': read_sdf, '.xyz': read_xyz, '.pdb': read_pdb}
#: Rings without hydrogens: elements, and distance (Å) of each atom from the centre.
RINGS = {'benzene': ([6] * 6, [1.39] * 6), '1,2,4-triazole': ([7, 7, 6, 7, 6], [1.15, 1.15, 1.11, 1.17, 1.11]),
         'thiophene': ([16, 6, 6, 6, 6], [1.47, 1.21, 1.17, 1.17, 1.21])}
ANGLES = {'benzene': [0, 60, 120, 180, 240, 300], '1,2,4-triazole': [0, 72, 145, 216, 287],
          'thiophene': [0, 79.5, 146, 214, 280.5]}


def ring(name: str) -> Data:
    z, radius = RINGS[name]
    angle = [math.radians(a) for a in ANGLES[name]]
    pos = [[r * math.cos(a), r * math.sin(a), 0.0] for r, a in zip(radius, angle, strict=True)]
    return Data(z=torch.tensor(z), pos=torch.tensor(pos), name=name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--scaffold', type=Path, help='SDF, XYZ or PDB file; three rings if left out')
    parser.add_argument('--model', default='InertialAR', help='InertialAR or Quetzal')
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--num-samples', type=int, default=32, help='molecules a scaffold')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/scaffold'), help='folder of all results')
    args = parser.parse_args()
    model = getattr(models, args.model).from_pretrained(args.weights)
    if args.scaffold is None:
        scaffolds = [ring(name) for name in RINGS]
    else:
        scaffolds = READERS[args.scaffold.suffix.lower()](args.scaffold)[:1]
    for scaffold in scaffolds:
        name = scaffold.get('name') or args.scaffold.stem
        unknown = set(scaffold.z.tolist()) - set(model.elements)
        if unknown:
            print(f'{name}: left out, the weights do not know the elements {sorted(unknown)}')
            continue
        molecules = model.complete(scaffold, args.num_samples, seed=args.seed, progress=True)
        print(f'{name}: {completion_report(molecules, scaffold)}')
        stem = name.replace(',', '_')
        write_sdf(molecules, args.out / f'{stem}.sdf', on_error='skip')
        draw_grid(molecules[:16], args.out / f'{stem}.png')
    print(f'wrote to {args.out}')


if __name__ == '__main__':
    main()
