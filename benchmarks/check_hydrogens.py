r"""Are hydrogens put back where they were? QM9 test molecules, beside RDKit and Open Babel.

    python benchmarks/check_hydrogens.py [--weights qm9] [--num 500 | --num 0 for all]

Each method gets the places of the heavy atoms and nothing else, one sample a molecule. The measure is Quetzal's: RMSD
over all atoms under the best assignment of atoms of the same element, without superposition. Shares are of all
molecules: a wrong number of hydrogens, or a method that fails, is a miss.

* model: `add_hydrogens` at the place temperatures given; bonds are found from the distances of the heavy atoms.
* RDKit: bonds and their orders between the heavy atoms by the EDM distance tables, open valences are
  hydrogens (neutral, no radicals), `AddHs(addCoords=True)`. A molecule that RDKit does not sanitize
  is a failure. The tables know no aromatic bond, so rings lose some or gain hydrogens.
* RDKit, told the bonds: the bonds and orders that the same tables find in the whole molecule, so that the numbers of
  hydrogens are known; only their places are judged.
* Open Babel, where it is installed: `obabel -h` on the heavy atoms, whose bonds it finds itself.
"""
import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from qm9_arrays import FOLDER, load, machine
from torch_geometric.data import Data

from torch_geometric_inertial.chem import from_mol, read_xyz, table_bonds, to_mol, write_xyz
from torch_geometric_inertial.chem.graph import build_mol
from torch_geometric_inertial.datasets import qm9_split
from torch_geometric_inertial.metrics import hydrogen_report
from torch_geometric_inertial.models import AtomAutoregressor

PUBLISHED = """published, all QM9 test molecules (Quetzal, arXiv:2505.13791, read off its figure), < 0.05 / 0.1 / 0.5 Å:
  Quetzal .903 / .940 / .994   Open Babel + Hydride .132 / .430 / .790   Symphony .239 / .350 / .437"""


def molecules_of_test(folder: Path, elements: Sequence[int], num: int, seed: int = 0) -> tuple[list[Data], int]:
    """A seeded draw of QM9 test molecules with a heavy atom (all if :obj:`num` is 0), and how many of them were left
    out as having other elements than these."""
    arrays = load(folder)
    which = qm9_split(arrays.name, 'test').nonzero().flatten()
    which = which[torch.randperm(which.numel(), generator=torch.Generator().manual_seed(seed))]
    arrays = arrays.select(which[:num or None])
    ptr = arrays.ptr.tolist()
    drawn = [Data(z=arrays.z[a:b], pos=arrays.pos[a:b]) for a, b in zip(ptr[:-1], ptr[1:], strict=True)]
    kept = [data for data in drawn if set(data.z.tolist()) <= set(elements) and int((data.z > 1).sum()) > 0]
    return kept, len(drawn) - len(kept)


def by_rdkit(heavy: Data) -> Data:
    from rdkit import Chem

    bonds = table_bonds(heavy.z, heavy.pos, torch.tensor([0, heavy.z.numel()]))
    mol = build_mol(heavy.z.tolist(), bonds.ends.t().tolist(), bonds.order.tolist(), heavy.pos.tolist(),
                    implicit_hydrogens=True)
    Chem.SanitizeMol(mol)
    return from_mol(Chem.AddHs(mol, addCoords=True))


def by_rdkit_told(whole: Data) -> Data:
    from rdkit import Chem

    return from_mol(Chem.AddHs(Chem.RemoveAllHs(to_mol(whole, sanitize=True)), addCoords=True))


def by_open_babel(heavy: Data) -> Data:
    with tempfile.TemporaryDirectory() as folder:
        write_xyz([heavy], Path(folder) / 'in.xyz')
        subprocess.run(['obabel', 'in.xyz', '-O', 'out.xyz', '-h'], cwd=folder, capture_output=True, check=True)
        return read_xyz(Path(folder) / 'out.xyz')[0]


def each(method: Callable[[Data], Data], molecules: list[Data]) -> list[Data | None]:
    """One by one; a failure is :obj:`None`."""
    from rdkit import rdBase

    placed: list[Data | None] = []
    with rdBase.BlockLogs():
        for data in molecules:
            try:
                placed.append(method(data))
            except (ValueError, RuntimeError, OSError, IndexError, subprocess.CalledProcessError):
                placed.append(None)
    return placed


def show(name: str, placed: Sequence[Data | None], truth: list[Data], seconds: float) -> None:
    failed = sum(data is None for data in placed)
    print(f'{name:28}{hydrogen_report(placed, truth)}; failed {failed}; {seconds:.1f} s', flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--data', type=Path, default=FOLDER)
    parser.add_argument('--num', type=int, default=500, help='test molecules; 0 for all')
    parser.add_argument('--place-temperature', type=float, nargs='+', default=[0.0, 0.3, 1.0])
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    model = AtomAutoregressor.from_pretrained(args.weights)
    truth, left_out = molecules_of_test(args.data, model.elements, args.num, args.seed)
    print(machine())
    print(f'{len(truth)} QM9 test molecules; {left_out} left out for elements that the weights do not know')
    heavy = [Data(z=data.z[data.z > 1], pos=data.pos[data.z > 1]) for data in truth]
    for temperature in args.place_temperature:
        start = time.monotonic()
        placed = each(lambda data, t=temperature: model.add_hydrogens(data, place_temperature=t, seed=args.seed), heavy)
        show(f'model, place temperature {temperature:g}', placed, truth, time.monotonic() - start)
    for name, method, given in (('RDKit', by_rdkit, heavy), ('RDKit, told the bonds', by_rdkit_told, truth),
                                ('Open Babel', by_open_babel, heavy)):
        if name == 'Open Babel' and shutil.which('obabel') is None:
            print(f'{name:28}not installed')
            continue
        start = time.monotonic()
        show(name, each(method, given), truth, time.monotonic() - start)
    print(PUBLISHED)


if __name__ == '__main__':
    main()
