r"""A property of QM9 molecules from their geometry, such as the energy of the highest occupied orbital.

    python examples/qm9_properties.py                             HOMO from the embedded sample, PaiNN, 10 minutes
    python examples/qm9_properties.py --root data/qm9 --max-minutes 60     from all of PyG's QM9 (downloaded)
    python examples/qm9_properties.py --root data/qm9 --half first --out outputs/judge     the regressor that judges
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
from torch_geometric.datasets import QM9

from torch_geometric_inertial import GeoMFormer, PaiNN, TorchMDNet
from torch_geometric_inertial.datasets import EXTENSIVE, QM9_TARGETS, QM9Sample, gdb_ids, qm9_split, qm9_target
from torch_geometric_inertial.metrics import halves, size_only_mae
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.ops.segment import segment_sum
from torch_geometric_inertial.training import FitConfig, KeepBest, PackedTargets, PropertyLoss, fit

MODELS = dict(geomformer=GeoMFormer, painn=PaiNN, torchmd_net=TorchMDNet)
FLUORINE = 9


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--target', default='homo', choices=list(QM9_TARGETS))
    parser.add_argument('--half', choices=['first', 'second'], help='train on one half of the training split')
    parser.add_argument('--model', default='painn', choices=list(MODELS))
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--channels', type=int, default=64, help='width')
    parser.add_argument('--num-layers', type=int, default=3, help='layers')
    parser.add_argument('--cutoff', type=float, default=4.0, help='distance (Å) that atoms see each other at')
    parser.add_argument('--max-minutes', type=float, default=10.0, help='time to train')
    parser.add_argument('--num-steps', type=int, default=1_000_000, help='training steps, if they end before the time')
    parser.add_argument('--batch-size', type=int, default=32, help='molecules a training step')
    parser.add_argument('--lr', type=float, default=2e-3, help='peak learning rate')
    parser.add_argument('--evaluate-every', type=int, default=1000, help='training steps between validations')
    parser.add_argument('--compile', action='store_true', help='compile the layers (needs a C++ compiler)')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, help='folder of all results (default: outputs/qm9_TARGET)')
    args = parser.parse_args()
    args.out = args.out or Path(f'outputs/qm9_{args.target}')
    return args


def load(root: Path | None, target: str, half: str | None) -> dict[str, PackedTargets]:
    """Molecules with their target `y`: 'train' (all, or the half), 'valid' and 'test'."""
    dataset = QM9Sample() if root is None else QM9(str(root))
    ptr, y = dataset.slices['z'], (sample_target if root is None else qm9_target)(dataset, target).double()
    data = PackedTargets(ptr, dict(z=dataset.z, pos=dataset.pos), dict(y=y.nan_to_num(0.0)))
    if root is None:  # in GDB order
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(0))
        parts = dict(valid=order[:500], test=order[500:1000], train=order[1000:].sort().values)
    else:
        gdb, no_fluorine = gdb_ids(dataset.name), segment_sum((dataset.z == FLUORINE).long(), ptr) == 0
        parts = {part: (qm9_split(gdb, part) & no_fluorine).nonzero().flatten() for part in ('train', 'valid', 'test')}
    if half is not None:  # before the target is looked at: one half for all targets
        parts['train'] = parts['train'][halves(len(parts['train']))[('first', 'second').index(half)]]
    return {part: data.subset(index[y[index].isfinite()]) for part, index in parts.items()}


def sample_target(sample: QM9Sample, target: str) -> Tensor:
    if target not in ('homo', 'gap'):
        raise ValueError(f"the embedded sample has 'homo' and 'gap' alone (got '{target}'): give --root")
    return getattr(sample, target)


def new_model(train: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    torch.manual_seed(args.seed)
    model = MODELS[args.model](elements=tuple(train.atom_columns['z'].unique().tolist()), channels=args.channels,
                               num_layers=args.num_layers, cutoff=args.cutoff,
                               scalar_head='sum' if args.target in EXTENSIVE else 'mean')
    if args.compile:
        for layer in model.layers:
            layer.compile(dynamic=True)
    return model


def mae(predicted: Tensor, data: PackedTargets) -> float:
    return float((predicted - data.molecule_columns['y']).abs().mean())


def baselines(train: PackedTargets, test: PackedTargets) -> dict[str, float]:
    """Errors of what needs no geometry: one number, the best for each size, and a linear function of the formula."""
    elements = train.atom_columns['z'].unique()

    def formula(data: PackedTargets) -> Tensor:
        counts = segment_sum((data.atom_columns['z'].unsqueeze(1) == elements).long(), data.ptr).double()
        return torch.cat([torch.ones(len(data), 1), counts], dim=1)

    y = train.molecule_columns['y']
    fit_of_formula = torch.linalg.lstsq(formula(train), y.unsqueeze(1)).solution
    return {'mean of training': mae(y.mean(), test),
            'size only': size_only_mae(train.ptr.diff(), y, test.ptr.diff(), test.molecule_columns['y']),
            'formula only': mae((formula(test) @ fit_of_formula).squeeze(1), test)}


def train_model(parts: dict[str, PackedTargets], args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on molecules of the validation split."""
    train, valid = parts['train'], parts['valid']
    valid = valid.subset(torch.randperm(len(valid), generator=torch.Generator().manual_seed(0))[:2000])
    model = new_model(train, args)
    loss = PropertyLoss(model, train)
    print(f'{model} learns {args.target} from {len(train):,} molecules for {args.max_minutes:g} minutes')
    keep = KeepBest(args.out / 'model', lambda loss: dict(val_mae=mae(loss.model.predict(valid).scalars, valid)),
                    'val_mae', target=args.target, unit=QM9_TARGETS[args.target],
                    training=dict(data='QM9Sample' if args.root is None else 'QM9 without fluorine, EDM split',
                                  half=args.half, molecules=len(train), minutes=args.max_minutes, seed=args.seed,
                                  lr=args.lr, batch_size=args.batch_size))
    config = FitConfig(num_steps=args.num_steps, max_minutes=args.max_minutes, batch_size=args.batch_size, lr=args.lr,
                       evaluate_every=args.evaluate_every, seed=args.seed)
    last = fit(loss, train, args.out / 'training', config, evaluate=keep, progress=True)
    keep(last)  # the end of the training
    return type(model).from_pretrained(args.out / 'model')


def main() -> None:
    args = parse_arguments()
    parts = load(args.root, args.target, args.half)
    model = train_model(parts, args) if args.weights is None else AtomPredictor.from_pretrained(args.weights)
    unit, factor = QM9_TARGETS[args.target], 1.0
    if unit == 'eV':
        unit, factor = 'meV', 1000.0
    errors = baselines(parts['train'], parts['test'])
    errors[type(model).__name__] = mae(model.predict(parts['test']).scalars, parts['test'])
    print(f"mean absolute error of {args.target} on {len(parts['test']):,} test molecules ({unit})")
    for name, error in errors.items():
        print(f'{name:18} {factor * error:10.4g}')


if __name__ == '__main__':
    main()
