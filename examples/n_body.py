r"""GeoMFormer on the n-body problem: five charged particles, and where they are one time unit later.

    python examples/n_body.py                              simulate the published data set (half a minute), learn for 10
                                                           minutes, print the test error
    python examples/n_body.py --preset n_body_paper        the paper's own model
    python examples/n_body.py --start outputs/n_body/model --time-steps 16 --fit lr=5e-4 --out outputs/n_body_16
                                                           the law that was learned, in finer steps
    python examples/n_body.py --weights outputs/n_body/model          the test error of an earlier run
    python examples/n_body.py --fit max_minutes=60 seed=1 --out runs/n_body_1      run it again to go on where it was
                                                           stopped
"""
import argparse
from pathlib import Path

import torch
from torch import Tensor
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import NBody
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.training import FitConfig, PackedTargets, PositionLoss, fit_best

#: Close encounters throw: gradients are clipped to their usual size.
FIT = FitConfig(num_steps=1_000_000, max_minutes=10.0, batch_size=100, lr=1.5e-3, betas=(0.9, 0.99), max_norm=0.15,
                evaluate_every=250)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/n_body'), help='folder of the simulated data')
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--preset', default='n_body', choices=['n_body', 'n_body_direct', 'n_body_paper'])
    parser.add_argument('--start', type=Path, help='folder of a model to begin with, such as one of fewer time steps')
    parser.add_argument('--time-steps', type=int, help="of the learned integrator; the preset's if left out")
    parser.add_argument('--fit', nargs='+', default=[], metavar='FIELD=VALUE', help='changes to FIT, a FitConfig')
    parser.add_argument('--out', type=Path, default=Path('outputs/n_body'), help='folder of all results')
    return parser.parse_args()


def charge_as_type(item: Data) -> Data:
    item.z = item.charge.long()
    return item


def load(root: Path, split: str) -> PackedTargets:
    dataset = NBody(str(root), split, transform=charge_as_type)
    return PackedTargets.from_dataset(dataset, ['z', 'pos', 'vel', 'y'], ['encounter'])


def errors(predicted: Tensor, data: PackedTargets) -> dict[str, float]:
    """Mean squared errors of a coordinate, and their standard error, in trajectories with and without an encounter."""
    each = (predicted - data.atom_columns['y']).double().square().view(len(data), -1).mean(1)
    encounter = data.molecule_columns['encounter']
    return dict(mse=float(each.mean()), standard_error=float(each.std() / len(each)**0.5), median=float(each.median()),
                clean=float(each[~encounter].mean()), encounter=float(each[encounter].mean()))


def linear_baseline(train: PackedTargets, test: PackedTargets) -> Tensor:
    """Straight on with the time that fits the training set best."""
    moved, vel = train.atom_columns['y'] - train.atom_columns['pos'], train.atom_columns['vel']
    time = (moved * vel).sum() / vel.square().sum()
    print(f'fitted time of straight motion: {float(time):.4f}')
    return test.atom_columns['pos'] + time * test.atom_columns['vel']


def train_model(train: PackedTargets, val: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on the validation split."""
    config = FIT.with_words(args.fit)
    torch.manual_seed(config.seed)
    changes = {} if args.time_steps is None else dict(time_steps=args.time_steps)
    model = GeoMFormer(GeoMFormerConfig.preset(args.preset, **changes))
    if args.start is not None:
        model.load_state_dict(GeoMFormer.from_pretrained(args.start).state_dict())
    print(f'{model} learns from {len(train):,} trajectories for {config.max_minutes:g} minutes')
    return fit_best(PositionLoss(model), train, args.out, config, figure='mse', progress=True,
                    measure=lambda averaged: errors(averaged.predict(val, 500).vectors, val),
                    training=dict(preset=args.preset))


def main() -> None:
    args = parse_arguments()
    train, val, test = (load(args.root, split) for split in ('train', 'val', 'test'))
    model = train_model(train, val, args) if args.weights is None else GeoMFormer.from_pretrained(args.weights)
    rows = {'straight on': errors(linear_baseline(train, test), test),
            'GeoMFormer': errors(model.predict(test, 500).vectors, test)}
    encounters = test.molecule_columns['encounter'].sum()
    print(f'test MSE of {len(test):,} trajectories, {int(encounters):,} of them with a close encounter')
    print(f'{"":12} {"all":>9} {"± s.e.":>9} {"clean":>9} {"encounter":>10} {"median":>10}')
    for name, row in rows.items():
        print(f'{name:12} {row["mse"]:9.5f} {row["standard_error"]:9.5f} {row["clean"]:9.5f} {row["encounter"]:10.5f} '
              f'{row["median"]:10.6f}')


if __name__ == '__main__':
    main()
