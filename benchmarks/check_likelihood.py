"""The log-likelihood of QM9 test molecules under a model, in its own order and pose.

    python benchmarks/check_likelihood.py --weights qm9 --num 100
"""
import argparse
from itertools import pairwise

import torch
from qm9_arrays import load, machine
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import AtomAutoregressor
from torch_geometric_inertial.chem import with_bonds
from torch_geometric_inertial.datasets import qm9_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder')
    parser.add_argument('--num', type=int, default=100)
    parser.add_argument('--num-steps', type=int, default=16)
    parser.add_argument('--seed', type=int, default=0, help='of the draw of the molecules')
    args = parser.parse_args()
    model = AtomAutoregressor.from_pretrained(args.weights)
    molecules = load()
    test = qm9_split(molecules.name, 'test').nonzero().flatten()
    if test.numel() == 0:
        test = torch.arange(len(molecules.name))
        print('the embedded sample has no test molecules: some of these may be of the training set')
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(args.seed))
    drawn = molecules.select(test[order[:args.num]])
    molecules = [Data(z=drawn.z[a:b], pos=drawn.pos[a:b].float()) for a, b in pairwise(drawn.ptr.tolist())]
    batch = Batch.from_data_list([with_bonds(data) for data in molecules] if model.writes_bonds else molecules)
    value = model.log_prob(batch, num_steps=args.num_steps)
    error = value.total.std() / len(value.total)**0.5
    print(f'{machine()}\n{model}, {len(value.total)} molecules, {batch.z.numel()} atoms; nats, Å')
    print(f'per molecule: {value.total.mean():.2f} ± {error:.2f} (standard error)')
    terms = {name: getattr(value, name).sum() / batch.z.numel() for name in ('type', 'bond', 'coord')}
    print('per atom: ' + ', '.join(f'{name} {term:.3f}' for name, term in terms.items())
          + f'; the stop {value.stop.mean():.3f} per molecule')


if __name__ == '__main__':
    main()
