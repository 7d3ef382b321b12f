"""How many steps the likelihood needs: its error and its time against the number of steps of the flow.

    python benchmarks/bench_likelihood.py [--weights qm9] [--num 12]
"""
import argparse
import time

import qm9_arrays
import torch
from torch_geometric.data import Batch, Data

from torch_geometric_inertial import AtomAutoregressor
from torch_geometric_inertial.chem import with_bonds
from torch_geometric_inertial.datasets import qm9_split


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9')
    parser.add_argument('--num', type=int, default=12, help='molecules of the EDM test split')
    parser.add_argument('--steps', type=int, nargs='+', default=[2, 4, 8, 12, 16, 24, 32])
    parser.add_argument('--reference', type=int, default=64, help='steps of the reference')
    args = parser.parse_args()

    model = AtomAutoregressor.from_pretrained(args.weights)
    molecules = qm9_arrays.load()
    test = qm9_split(molecules.name, 'test').nonzero().flatten()
    test = test if len(test) > 0 else torch.arange(len(molecules.name))
    unknown = ~torch.isin(molecules.z, torch.tensor(model.elements))
    bad = torch.zeros(len(molecules.name)).index_add(0, molecules.molecule, unknown.float()) > 0
    test = test[~bad[test]]
    chosen = molecules.select(test[torch.randperm(len(test), generator=torch.Generator().manual_seed(0))[:args.num]])
    datas = [Data(z=chosen.z[a:b], pos=chosen.pos[a:b].float())
             for a, b in zip(chosen.ptr[:-1].tolist(), chosen.ptr[1:].tolist(), strict=True)]
    batch = Batch.from_data_list([with_bonds(data) for data in datas] if model.writes_bonds else datas)

    reference = model.log_prob(batch, num_steps=args.reference)
    print(f'{qm9_arrays.machine()}\n{model}, {len(datas)} molecules, {batch.num_nodes} atoms; '
          f'reference: {args.reference} steps, {float(reference.total.mean()):.2f} nats a molecule')
    print('| steps | evaluations | seconds | atom: mean error | 95 % below | molecule: mean error | bias |')
    print('|---|---|---|---|---|---|---|')
    for num_steps in args.steps:
        start = time.perf_counter()
        found = model.log_prob(batch, num_steps=num_steps)
        seconds = time.perf_counter() - start
        atom, molecule = (found.coord - reference.coord).abs(), found.total - reference.total
        print(f'| {num_steps} | {4 * num_steps} | {seconds:.1f} | {atom.mean():.3f} | {atom.quantile(0.95):.3f} | '
              f'{molecule.abs().mean():.2f} | {molecule.mean():+.2f} |')


if __name__ == '__main__':
    main()
