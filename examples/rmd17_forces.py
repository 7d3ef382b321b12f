r"""Energies and forces of a molecule, learned from 950 frames of its revised MD17 trajectory.

    python examples/rmd17_forces.py                              ethanol (2 MB, downloaded), GeoMFormer, 30 minutes
    python examples/rmd17_forces.py --name aspirin --model painn --fit max_minutes=60 --out runs/aspirin_painn
    python examples/rmd17_forces.py --weights outputs/rmd17/model          the test errors of an earlier run

The official training frames are split into 950 for training and 50 to choose the weights by; errors are on the official
test frames. Run it again to go on where it was stopped; the learning curve stands in OUT/training/log.jsonl.
"""
import argparse
from pathlib import Path

import torch

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig, PaiNN, TorchMDNet
from torch_geometric_inertial.datasets import RevisedMD17
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.training import EnergyForceLoss, FitConfig, PackedTargets, fit_best

MEV = 43.364  #: In a kcal/mol.
MODELS = ('geomformer', 'painn', 'torchmd_net')
FIT = FitConfig(num_steps=1_000_000, max_minutes=30.0, batch_size=8, lr=1e-3, warmup_steps=500, max_norm=10.0,
                evaluate_every=500)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, default=Path('data/rmd17'), help='folder of the data')
    parser.add_argument('--name', default='ethanol', help='molecule')
    parser.add_argument('--split', type=int, default=1, help='official split, 1 to 5')
    parser.add_argument('--model', default='geomformer', choices=MODELS)
    parser.add_argument('--forces', default='conservative', choices=['conservative', 'direct'])
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--channels', type=int, help="width; the model's default if left out")
    parser.add_argument('--num-layers', type=int, help="layers; the model's default if left out")
    parser.add_argument('--fit', nargs='+', default=[], metavar='FIELD=VALUE', help='changes to FIT, a FitConfig')
    parser.add_argument('--out', type=Path, default=Path('outputs/rmd17'), help='folder of all results')
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[PackedTargets, PackedTargets, PackedTargets]:
    """Frames to train on, to choose the weights by, and for test."""
    official, test = (PackedTargets.from_dataset(RevisedMD17(str(args.root), args.name, train=train, split=args.split),
                                                 ['z', 'pos', 'force'], ['energy']) for train in (True, False))
    return *official.split(950), test


def new_model(elements: tuple[int, ...], args: argparse.Namespace) -> AtomPredictor:
    size = {name: getattr(args, name) for name in ('channels', 'num_layers') if getattr(args, name) is not None}
    fields = dict(elements=elements, vector_head=args.forces, **size)
    if args.model == 'geomformer':
        return GeoMFormer(GeoMFormerConfig.preset('rmd17', **fields))
    return (PaiNN if args.model == 'painn' else TorchMDNet)(**fields)


def errors(model: AtomPredictor, data: PackedTargets) -> dict[str, float]:
    """Mean absolute errors of energies (kcal/mol) and of the components of forces (kcal/mol/Å)."""
    energy, force, _ = model.predict(data)
    return dict(energy_mae=float((energy - data.molecule_columns['energy']).abs().mean()),
                force_mae=float((force - data.atom_columns['force']).abs().mean()))


def constant_errors(train: PackedTargets, test: PackedTargets) -> dict[str, float]:
    """Those of the mean training energy and no forces."""
    energy = test.molecule_columns['energy'] - train.molecule_columns['energy'].mean()
    return dict(energy_mae=float(energy.abs().mean()), force_mae=float(test.atom_columns['force'].abs().mean()))


def train_model(train: PackedTargets, val: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on the validation frames."""
    config = FIT.with_words(args.fit)
    torch.manual_seed(config.seed)
    model = new_model(tuple(train.atom_columns['z'].unique().tolist()), args)
    print(f'{model} learns from {len(train)} frames of {args.name} for {config.max_minutes:g} minutes')
    return fit_best(EnergyForceLoss(model, train), train, args.out, config, figure='force_mae', progress=True,
                    measure=lambda averaged: errors(averaged, val), energy_unit='kcal/mol',
                    training=dict(data=f'rMD17 {args.name}, split {args.split}'))


def main() -> None:
    args = parse_arguments()
    train, val, test = load(args)
    model = train_model(train, val, args) if args.weights is None else AtomPredictor.from_pretrained(args.weights)
    rows = {'mean of training': constant_errors(train, test), type(model).__name__: errors(model, test)}
    print(f'mean absolute errors on {len(test):,} test frames of {args.name}')
    print(f'{"":18} {"energy":>16} {"force":>16} {"energy":>10} {"force":>10}')
    print(f'{"":18} {"kcal/mol":>16} {"kcal/mol/Å":>16} {"meV":>10} {"meV/Å":>10}')
    for name, row in rows.items():
        e, f = row['energy_mae'], row['force_mae']
        print(f'{name:18} {e:16.4f} {f:16.4f} {MEV * e:10.2f} {MEV * f:10.2f}')


if __name__ == '__main__':
    main()
