r"""How often each functional group is in QM9, and how long finding them takes.

    python benchmarks/bench_functional_groups.py                all molecules, bonds as stored
    python benchmarks/bench_functional_groups.py --perceived    bonds from distances; who is refused, who differs
"""
import argparse
import time

import numpy as np
import torch
from qm9_arrays import FOLDER, machine
from torch_geometric.data import Data

from torch_geometric_inertial import FunctionalGroups
from torch_geometric_inertial.datasets import QM9Sample


def load(limit: int | None) -> list[Data]:
    """All of QM9 with bonds and charges, or the embedded sample where it is not at hand."""
    if not (FOLDER / 'qm9_geom.npz').is_file():
        print(f"no 'qm9_geom.npz' in {FOLDER}: the 10,000 molecules of the embedded sample instead of all of QM9")
        return list(QM9Sample()[:limit])
    with np.load(FOLDER / 'qm9_geom.npz') as file:
        x = {key: torch.from_numpy(file[key].astype(np.int64)) for key in file.files}
    pos, bonds = x['pos_1e5'].double() * 1e-5, torch.stack([x['bond_u'], x['bond_v']])
    out = []
    for i in range(len(x['gdb_id']) if limit is None else limit):
        atoms, edges = slice(*x['ptr'][i:i + 2].tolist()), slice(*x['bond_ptr'][i:i + 2].tolist())
        out.append(Data(z=x['z'][atoms], pos=pos[atoms], edge_index=bonds[:, edges], edge_attr=x['bond_order'][edges],
                        charge=x['formal_charge'][atoms]))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--perceived', action='store_true', help='also find bonds by distance and compare')
    parser.add_argument('--limit', type=int, help='molecules; all if left out')
    args = parser.parse_args()
    print(machine())
    molecules, transform = load(args.limit), FunctionalGroups()

    start = time.process_time()
    groups = torch.cat([transform(data).groups for data in molecules])
    rate = len(molecules) / (time.process_time() - start)
    print(f'{len(molecules):,} molecules, {rate:,.0f} a second of one core; '
          f'{groups.unique(dim=0).size(0):,} different patterns, {groups.sum(1).double().mean():.2f} groups a molecule')
    print('| group | SMARTS | molecules | % |\n|---|---|---|---|')
    for name, count in zip(transform.names, groups.sum(0).tolist(), strict=True):
        print(f'| {name} | `{transform.vocabulary[name]}` | {count:,} | {100 * count / len(molecules):.2f} |')

    if args.perceived:
        refused = different = 0
        for data, row in zip(molecules, groups, strict=True):
            try:
                different += not torch.equal(transform(Data(z=data.z, pos=data.pos)).groups[0], row)
            except ValueError:
                refused += 1
        print(f'bonds by distance: {refused:,} refused ({100 * refused / len(molecules):.2f} %), of the others '
              f'{different:,} with other groups')


if __name__ == '__main__':
    main()
