r"""Molecules around a scaffold that stays where it is.

    python examples/scaffold.py                            benzene, 1,2,4-triazole and thiophene
    python examples/scaffold.py --scaffold core.sdf        around the first molecule of a file (SDF, XYZ or PDB)
    python examples/scaffold.py --model Quetzal --weights FOLDER
"""
import argparse
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial import models
from torch_geometric_inertial.chem import draw_grid, read_molecules, write_sdf
from torch_geometric_inertial.metrics import completion_report

#: Flat rings without hydrogens, elements and places (Å): of QM9 (DFT), thiophene as by microwave spectroscopy. Good
#: lengths matter: a benzene of 1.39 Å has six double bonds by the EDM tables, one of 1.3935 Å none.
RINGS = {
    'benzene': ([6] * 6, [(-0.697, 1.207), (0.697, 1.207), (1.394, 0.0), (0.697, -1.207), (-0.697, -1.207),
                          (-1.394, 0.0)]),
    '1,2,4-triazole': ([7, 6, 7, 6, 7], [(0.530, -0.982), (-0.805, -0.789), (-1.073, 0.502), (0.170, 1.063),
                                         (1.178, 0.207)]),
    'thiophene': ([16, 6, 6, 6, 6], [(0.0, 0.0), (1.235, 1.189), (0.712, 2.455), (-0.712, 2.455), (-1.235, 1.189)]),
}


def ring(name: str) -> Data:
    z, places = RINGS[name]
    return Data(z=torch.tensor(z), pos=torch.tensor([(x, y, 0.0) for x, y in places]), name=name)


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
    scaffolds = [ring(name) for name in RINGS] if args.scaffold is None else read_molecules(args.scaffold, 'skip')[:1]
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
