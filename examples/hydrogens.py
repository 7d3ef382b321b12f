r"""Hydrogens for molecules that lack them, and how well they are placed.

    python examples/hydrogens.py molecules.sdf     SDF, XYZ or PDB: writes them with all hydrogens
    python examples/hydrogens.py                   takes those of real QM9 molecules away and compares

The weights must be of a model that writes hydrogens last (order='heavy_first').
"""
import argparse
import shutil
import subprocess
import tempfile
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial import models
from torch_geometric_inertial.chem import from_mol, read_molecules, read_xyz, to_mol, write_sdf, write_xyz
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import hydrogen_report


def by_rdkit(truth: list[Data]) -> list[Data | None]:
    """AddHs(addCoords=True) on the true bonds between heavy atoms, which the model does not see."""
    from rdkit import Chem

    placed: list[Data | None] = []
    for whole in truth:
        try:
            mol = Chem.RemoveHs(to_mol(whole))
            found = from_mol(Chem.AddHs(mol, addCoords=True))
            placed.append(Data(z=found.z, pos=found.pos))
        except (ValueError, RuntimeError):
            placed.append(None)
    return placed


def by_open_babel(heavy: list[Data]) -> list[Data | None]:
    """obabel -h, which finds the bonds itself."""
    placed: list[Data | None] = []
    with tempfile.TemporaryDirectory() as folder:
        for data in heavy:
            write_xyz([data], Path(folder) / 'in.xyz')
            subprocess.run(['obabel', 'in.xyz', '-O', 'out.xyz', '-h'], cwd=folder, capture_output=True, check=False)
            try:
                placed.append(read_xyz(Path(folder) / 'out.xyz')[0])
            except (OSError, ValueError, IndexError):
                placed.append(None)
    return placed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('file', type=Path, nargs='?', help='SDF, XYZ or PDB; real QM9 molecules if left out')
    parser.add_argument('--model', default='InertialAR', help='InertialAR or Quetzal')
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--num-molecules', type=int, default=200, help='real molecules to compare on')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/hydrogens.sdf'))
    args = parser.parse_args()
    model = getattr(models, args.model).from_pretrained(args.weights)
    if args.file is not None:
        read = read_molecules(args.file, 'skip')
        heavy = [Data(z=data.z, pos=data.pos) for data in read]
        placed = model.add_hydrogens(heavy, seed=args.seed, progress=True)
        count = write_sdf(placed, args.out, on_error='skip')
        print(f'wrote {count} molecules to {args.out}')
        return
    sample = [data for data in QM9Sample()[9500:] if int((data.z > 1).sum()) > 0][:args.num_molecules]
    truth = [data for data in sample if set(data.z.tolist()) <= set(model.elements)]
    heavy = [Data(z=data.z[data.z > 1], pos=data.pos[data.z > 1]) for data in truth]
    with torch.no_grad():
        placed = model.add_hydrogens(heavy, seed=args.seed, progress=True)
    write_sdf(placed, args.out, on_error='skip')
    print(f'{"model":12}{hydrogen_report(placed, truth)}')
    print(f'{"RDKit":12}{hydrogen_report(by_rdkit(truth), truth)}   (told the bonds)')
    if shutil.which('obabel'):
        print(f'{"Open Babel":12}{hydrogen_report(by_open_babel(heavy), truth)}')


if __name__ == '__main__':
    main()
