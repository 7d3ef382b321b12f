r"""How often each functional group is in QM9, and how long finding them takes.

    python benchmarks/bench_functional_groups.py                all molecules, bonds as stored
    python benchmarks/bench_functional_groups.py --perceived    bonds from distances instead, on the 10,000 molecules of
                                                                the embedded sample: who is refused, who differs
"""
import argparse
import time

import numpy as np
import torch
from qm9_arrays import FOLDER, machine
from torch_geometric.data import Data

from torch_geometric_inertial import FunctionalGroups
from torch_geometric_inertial.datasets import QM9Sample


def load() -> list[Data]:
    """All of QM9 with bonds and charges, or the embedded sample where it is not at hand."""
    if not (FOLDER / 'qm9_geom.npz').is_file():
        print(f"no 'qm9_geom.npz' in {FOLDER}: the 10,000 molecules of the embedded sample instead of all of QM9")
        return list(QM9Sample())
    with np.load(FOLDER / 'qm9_geom.npz') as file:
        x = {key: torch.from_numpy(file[key].astype(np.int64)) for key in file.files}
    pos, bonds = x['pos_1e5'].double() * 1e-5, torch.stack([x['bond_u'], x['bond_v']])
    out = []
    for i in range(len(x['gdb_id'])):
        atoms, edges = slice(*x['ptr'][i:i + 2].tolist()), slice(*x['bond_ptr'][i:i + 2].tolist())
        out.append(Data(z=x['z'][atoms], pos=pos[atoms], edge_index=bonds[:, edges], edge_attr=x['bond_order'][edges],
                        charge=x['formal_charge'][atoms]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perceived', action='store_true', help='bonds by distance against stored ones')
    args = parser.parse_args()
    print(machine())
    compare() if args.perceived else count()


def count() -> None:
    """The table of frequencies."""
    molecules, transform = load(), FunctionalGroups()
    start = time.process_time()
    groups = torch.cat([transform(data).groups for data in molecules])
    rate = len(molecules) / (time.process_time() - start)
    print(f'{len(molecules):,} molecules, {rate:,.0f} a second of one core; '
          f'{groups.unique(dim=0).size(0):,} different patterns, {groups.sum(1).double().mean():.2f} groups a molecule')
    print('| group | SMARTS | molecules | % |\n|---|---|---|---|')
    for name, num in zip(transform.names, groups.sum(0).tolist(), strict=True):
        print(f'| {name} | `{transform.vocabulary[name]}` | {num:,} | {100 * num / len(molecules):.2f} |')


def compare() -> None:
    """Groups by stored bonds and by perceived ones."""
    for perception in ('rdkit-vdw', 'rdkit-ctd', 'edm'):
        stored, transform = FunctionalGroups(), FunctionalGroups(perception=perception)
        refused = different = 0
        for data in QM9Sample():
            try:
                different += not torch.equal(transform(Data(z=data.z, pos=data.pos)).groups, stored(data).groups)
            except ValueError:
                refused += 1
        print(f'{perception}: {refused:,} of 10,000 refused, of the others {different:,} with other groups')


if __name__ == '__main__':
    main()
