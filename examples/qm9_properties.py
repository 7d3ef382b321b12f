r"""A property of QM9 molecules from their geometry, such as the energy of the highest occupied orbital.

    python examples/qm9_properties.py                             HOMO from the embedded sample, PaiNN, 10 minutes
    python examples/qm9_properties.py --root data/qm9 --fit max_minutes=60     from all of PyG's QM9 (downloaded)
    python examples/qm9_properties.py --root data/qm9 --half first --out outputs/regressor     the regressor that judges
                                             generators, which learn from the other half: EDM's protocol
    python examples/qm9_properties.py --target gap --model geomformer
    python examples/qm9_properties.py --weights outputs/qm9_homo/model     the test error of an earlier run

The split is EDM's, without the molecules that hold fluorine or lack the target; of the embedded sample 500 molecules
are for validation and 500 for test. Run it again to go on where it was stopped; the learning curve stands in
OUT/training/log.jsonl. With a C++ compiler, --compile makes PaiNN twice as fast.
"""
import argparse
from pathlib import Path

import torch
from torch import Tensor

from torch_geometric_inertial import GeoMFormer, PaiNN, TorchMDNet
from torch_geometric_inertial.datasets import EXTENSIVE, QM9_TARGETS, load_qm9, qm9_target
from torch_geometric_inertial.metrics import formula_only_mae, halves, size_only_mae
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.training import FitConfig, PackedTargets, PropertyLoss, fit_best

MODELS = dict(geomformer=GeoMFormer, painn=PaiNN, torchmd_net=TorchMDNet)
FIT = FitConfig(num_steps=1_000_000, max_minutes=10.0, batch_size=32, lr=2e-3, evaluate_every=1000)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--target', default='homo', choices=list(QM9_TARGETS))
    parser.add_argument('--half', choices=['first', 'second'], help='train on one half of the training split')
    parser.add_argument('--model', default='painn', choices=list(MODELS))
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--channels', type=int, default=64, help='width')
    parser.add_argument('--num-layers', type=int, default=3, help='layers, with a cutoff of 4 Å')
    parser.add_argument('--compile', action='store_true', help='compile the layers (needs a C++ compiler)')
    parser.add_argument('--fit', nargs='+', default=[], metavar='FIELD=VALUE', help='changes to FIT, a FitConfig')
    parser.add_argument('--out', type=Path, help='folder of all results (default: outputs/qm9_TARGET)')
    return parser.parse_args()


def load(split: str, args: argparse.Namespace) -> PackedTargets:
    """The molecules without fluorine that have the target, as `y`."""
    molecules = [data for data in load_qm9(split, args.root) if args.root is None or not bool((data.z == 9).any())]
    if split == 'train' and args.half is not None:  # before the target is looked at: one half for all targets
        molecules = [molecules[i] for i in halves(len(molecules))[('first', 'second').index(args.half)].tolist()]
    for data in molecules:
        data.y = qm9_target(data, args.target).double()
    return PackedTargets.from_dataset([data for data in molecules if bool(data.y.isfinite())], ['z', 'pos'], ['y'])


def mae(predicted: Tensor, data: PackedTargets) -> float:
    return float((predicted - data.molecule_columns['y']).abs().mean())


def train_model(train: PackedTargets, valid: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on molecules of the validation split."""
    config = FIT.with_words(args.fit)
    torch.manual_seed(config.seed)
    model = MODELS[args.model](elements=tuple(train.atom_columns['z'].unique().tolist()), channels=args.channels,
                               num_layers=args.num_layers, cutoff=4.0,
                               scalar_head='sum' if args.target in EXTENSIVE else 'mean')
    if args.compile:
        for layer in model.layers:
            layer.compile(dynamic=True)
    valid = valid.subset(torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))[:2000])
    print(f'{model} learns {args.target} from {len(train):,} molecules for {config.max_minutes:g} minutes')
    return fit_best(PropertyLoss(model, train), train, args.out or Path(f'outputs/qm9_{args.target}'), config,
                    measure=lambda averaged: dict(mae=mae(averaged.predict(valid).scalars, valid)), figure='mae',
                    progress=True, target=args.target, unit=QM9_TARGETS[args.target],
                    training=dict(half=args.half, data='QM9Sample' if args.root is None else
                                  'QM9 without fluorine, EDM split'))


def main() -> None:
    args = parse_arguments()
    train, test = load('train', args), load('test', args)
    model = (train_model(train, load('valid', args), args) if args.weights is None else
             AtomPredictor.from_pretrained(args.weights))
    y, labels = train.molecule_columns['y'], test.molecule_columns['y']
    errors = {'mean of training': mae(y.mean(), test),
              'size only': size_only_mae(train.ptr.diff(), y, test.ptr.diff(), labels),
              'formula only': formula_only_mae((train.atom_columns['z'], train.ptr), y,
                                               (test.atom_columns['z'], test.ptr), labels),
              type(model).__name__: mae(model.predict(test).scalars, test)}
    unit = QM9_TARGETS[args.target]
    print(f"mean absolute error of {args.target} on {len(test):,} test molecules ({unit.replace('eV', 'meV')})")
    for name, error in errors.items():
        print(f"{name:18} {(1000 if unit == 'eV' else 1) * error:10.4g}")


if __name__ == '__main__':
    main()
