r"""Does a generator know a relaxed molecule from a distorted one? It scores both; nobody told it about energies.

    python examples/likelihood.py                              50 molecules of the embedded sample, bundled weights
    python examples/likelihood.py --root data/qm9 --num 200    of the EDM test split of PyG's own QM9 (downloaded)
    python examples/likelihood.py --file mine.sdf --weights runs/qm9/model
"""
import argparse
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.datasets import QM9

from torch_geometric_inertial import AtomAutoregressor
from torch_geometric_inertial.chem import read_sdf, with_bonds
from torch_geometric_inertial.datasets import QM9Sample, gdb_ids, qm9_split


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9', help='bundled name or folder of a generator')
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--file', type=Path, help='SDF file with molecules, instead')
    parser.add_argument('--num', type=int, default=50, help='molecules to score')
    parser.add_argument('--noise', type=float, nargs='+', default=[0.005, 0.01, 0.02, 0.05, 0.1],
                        help='standard deviations of the distortion of each coordinate, Å')
    parser.add_argument('--num-steps', type=int, default=8, help='steps of the flow')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def load_molecules(args: argparse.Namespace, elements: tuple[int, ...]) -> list[Data]:
    """Molecules with bonds, of the model's elements: the first `args.num` of a seeded shuffle."""
    if args.file is not None:
        dataset = read_sdf(args.file)
    elif args.root is not None:
        dataset = QM9(str(args.root))
        dataset = dataset[qm9_split(gdb_ids(dataset.name), 'test').nonzero().flatten()]
    else:
        dataset = QM9Sample()
        print('molecules of the embedded sample: the bundled weights have been trained on them')
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(args.seed)).tolist()
    known = (dataset[i] for i in order if set(dataset[i].z.tolist()) <= set(elements))
    molecules = list(islice(known, args.num))
    return [with_bonds(Data(z=data.z, pos=data.pos)) for data in molecules]


def score(model: AtomAutoregressor, molecules: list[Data], num_steps: int) -> Tensor:
    """Log-likelihood of each molecule in the model's frame and order, in nats per atom."""
    scores = []
    for start in range(0, len(molecules), 64):
        some = molecules[start:start + 64]
        sizes = torch.tensor([data.num_nodes for data in some])
        scores.append(model.log_prob(some, num_steps=num_steps).total / sizes)
    return torch.cat(scores)


def roc_auc(positive: Tensor, negative: Tensor) -> float:
    """Probability that a positive scores higher than a negative (Mann–Whitney); ties count half."""
    difference = positive.unsqueeze(1) - negative
    return float(((difference > 0).double() + (difference == 0).double() / 2).mean())


def main() -> None:
    args = parse_arguments()
    model = AtomAutoregressor.from_pretrained(args.weights)
    molecules = load_molecules(args, model.elements)
    print(f"{model} from '{args.weights}', {len(molecules)} molecules, {args.num_steps} steps")

    relaxed = score(model, molecules, args.num_steps)
    print('noise (Å)  nats per atom  ROC-AUC  relaxed wins')
    print(f'relaxed    {relaxed.mean():12.2f}')
    generator = torch.Generator().manual_seed(args.seed)
    for noise in args.noise:
        distorted = [data.clone() for data in molecules]
        for data in distorted:
            data.pos += noise * torch.randn(data.pos.shape, generator=generator)
        scores = score(model, distorted, args.num_steps)
        wins = float((relaxed > scores).double().mean())  # of each molecule against itself
        print(f'{noise:<9g}  {scores.mean():12.2f}  {roc_auc(relaxed, scores):7.3f}  {wins:12.0%}')


if __name__ == '__main__':
    main()
