r"""Relaxed energies (IS2RE) and structures (IS2RS) of adsorbates on surfaces, from their initial structures.

    python examples/oc20_is2re.py --files relaxations/*.traj                a small model on trajectories, in minutes
    python examples/oc20_is2re.py --files relaxations/*.traj --task is2rs
    python examples/oc20_is2re.py --root data/oc20                          the published model on OC20 (see below)

With --files a fifth of the systems is held out and the target is the energy that the relaxation sets free: that shows
that everything runs, and is no benchmark. `benchmarks/bench_published_training.py` says how long the published schedule
takes. Run it again to go on where it was stopped; with torchrun it uses several GPUs.
"""
import argparse
from pathlib import Path

import torch
from torch_geometric.data import Data

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import OC20, guess_tags, read_relaxations
from torch_geometric_inertial.metrics import relaxation_report
from torch_geometric_inertial.training import FitConfig, IS2RELoss, IS2RSLoss, NoisyNodes, PackedTargets, fit
from torch_geometric_inertial.training.is2re import predict_is2re

VALIDATION = ('val_id', 'val_ood_ads', 'val_ood_cat', 'val_ood_both')
SMALL = dict(channels=32, heads=4, num_layers=2, num_kernels=32, cutoff=5.0, radius=(0.0, 5.0))
SMALL_FIT = ['num_steps=300', 'batch_size=4', 'lr=3e-3', 'warmup_steps=20', 'ema_decay=0.98']


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument('--root', type=Path, help='folder of the official LMDB files')
    source.add_argument('--files', type=Path, nargs='+', help='trajectories, or archives of relaxations')
    parser.add_argument('--task', default='is2re', choices=['is2re', 'is2rs'])
    parser.add_argument('--model', choices=['small', 'published'], help='size and schedule (default: published with '
                        '--root, small with --files)')
    parser.add_argument('--size', default='all', choices=['all', '100k', '10k'], help='training systems, with --root')
    parser.add_argument('--num-validation', type=int, default=2000, help='systems per validation split, with --root')
    parser.add_argument('--noise', type=float, default=0.3, help='of noisy nodes in IS2RE (Å); negative for none')
    parser.add_argument('--fit', nargs='+', default=[], metavar='FIELD=VALUE', help='changes to the FitConfig')
    parser.add_argument('--out', type=Path, default=Path('outputs/oc20'), help='folder of all results')
    return parser.parse_args()


def pack(systems: list[Data]) -> PackedTargets:
    return PackedTargets.from_dataset(systems, ['z', 'pos', 'pos_relaxed', 'tags', 'fixed'], ['energy', 'cell', 'pbc'])


def load(args: argparse.Namespace) -> tuple[PackedTargets | OC20, dict[str, PackedTargets]]:
    """Systems to train on, and those to judge by."""
    if args.root is not None:
        splits = {name: pack(list(OC20(str(args.root), name)[:args.num_validation])) for name in VALIDATION}
        return OC20(str(args.root), 'train', args.size), splits
    systems = read_relaxations(args.files)
    if len(systems) < 5:
        raise SystemExit(f'at least 5 relaxations are needed, of which one is held out (got {len(systems)})')
    for data in systems:
        data.energy = data.energy - data.energy_initial
        if not bool(data.tags.any()):
            data.tags = guess_tags(data.z, data.fixed)
    held_out, train = pack(systems).split(len(systems) // 5)
    return train, {'held out': held_out}


def train_model(train: PackedTargets | OC20, val: PackedTargets, sample: Data, args: argparse.Namespace) -> GeoMFormer:
    """Trained to the end; the log has the errors on the first of the splits on the way."""
    small = args.model == 'small' or (args.model is None and args.root is None)
    config = FitConfig.preset(f'oc20_{args.task}').with_words(['evaluate_every=100', 'log_every=20'])
    config = config.with_words([*(SMALL_FIT if small else []), *args.fit])
    torch.manual_seed(config.seed)
    model = GeoMFormer(GeoMFormerConfig.preset('oc20', scalar_head='sum' if args.task == 'is2re' else 'none',
                                               **(SMALL if small else {})))
    print(f'{model} learns {args.task} from {len(train):,} systems in {config.num_steps:,} steps of '
          f'{config.batch_size}')
    measured = [] if args.root is not None else [float(sample.energy.mean()), float(sample.energy.std())]  # else OC20's
    loss = IS2RSLoss(model, sample) if args.task == 'is2rs' else IS2RELoss(model, sample, *measured)

    def figures(averaged: torch.nn.Module, step: int | None = None) -> dict[str, float]:
        report = relaxation_report(*predict_is2re(averaged.model, val), val.batch())
        return {f'val_{name}': value for name, value in report.figures().items()}
    augment = NoisyNodes(args.noise) if args.task == 'is2re' and args.noise >= 0 else None
    last = fit(loss, train, args.out / 'training', config, augment=augment, evaluate=figures, progress=True)
    last.model.save_pretrained(args.out / 'model', energy_unit='eV', task=args.task, validation=figures(last))
    return last.model


def main() -> None:
    args = parse_arguments()
    train, splits = load(args)
    sample = train.batch(torch.arange(min(len(train), 1000)))
    model = train_model(train, next(iter(splits.values())), sample, args)
    for name, data in (splits if args.root is not None else {'training': train, **splits}).items():
        batch = data.batch()
        mean = sample.energy.mean().expand(len(data)) if args.task == 'is2re' else None
        print(f'{name}, {len(data):,} systems')
        for who, found in {'mean, atoms stay': (mean, batch.pos), 'GeoMFormer': predict_is2re(model, data)}.items():
            print(f'  {who:18}', relaxation_report(*found, batch))


if __name__ == '__main__':
    main()
