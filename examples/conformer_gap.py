r"""Relaxed geometries and HOMO-LUMO gaps from RDKit conformers, learned as PCQM4Mv2 is.

    python examples/conformer_gap.py                            2,000 molecules of QM9 that come with the package
    python examples/conformer_gap.py --data pcqm4mv2 --root data/pcqm4mv2 --num-workers 16 --preset pcqm4mv2
    python examples/conformer_gap.py --data molecule3d --root data/molecule3d --limit 50000
    python examples/conformer_gap.py --weights outputs/conformer_gap/model      the test errors of an earlier run

In training the model sees geometries near the relaxed one, on the way to it, and conformers; in the test conformers
alone, and predictions from several of them are averaged. At the end it measures a step of the published model on this
machine and says how long the published run would take. Run it again to go on where it was stopped.
"""
import argparse
import statistics
import time
from pathlib import Path

import torch

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import ConformerDataset, Molecule3D, PCQM4Mv2Conformers, QM9Sample
from torch_geometric_inertial.models.atom_predictor import AtomPredictor
from torch_geometric_inertial.training import (
    ConformerGapLoss,
    FitConfig,
    KeepBest,
    PackedTargets,
    RelaxationInput,
    fit,
    predict_from_conformers,
    relaxation_errors,
)

SMALL = dict(channels=64, heads=4, num_layers=4, num_kernels=32)
#: Steps, warm-up and peak learning rate of the published runs, with batches of 1,024 molecules.
PUBLISHED = dict(pcqm4mv2=(1_500_000, 150_000, 2e-4), molecule3d=(1_000_000, 60_000, 3e-4))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='qm9', choices=['qm9', 'pcqm4mv2', 'molecule3d'])
    parser.add_argument('--root', type=Path, help='folder of the data; OUT/data if left out')
    parser.add_argument('--limit', type=int, help='molecules of each split to use (of QM9, 2,000 in all)')
    parser.add_argument('--num-conformers', type=int, default=4, help='conformers a molecule (published: 8)')
    parser.add_argument('--heavy', action='store_true', help='leave out hydrogens, as is usual for PCQM4Mv2')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that make conformers')
    parser.add_argument('--preset', default='small', choices=['small', *PUBLISHED], help='size of the model')
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--max-minutes', type=float, help='time to train; 10 for the small model')
    parser.add_argument('--num-steps', type=int, help='training steps; as published, if not given')
    parser.add_argument('--batch-size', type=int, help='molecules a step (32, or 1,024 as published)')
    parser.add_argument('--accumulate', type=int, default=1, help='parts of a batch, to save memory')
    parser.add_argument('--lr', type=float, help='peak learning rate (1e-3, or as published)')
    parser.add_argument('--warmup-steps', type=int, help='steps to reach it (as published, at most a tenth)')
    parser.add_argument('--precision', default='float32', choices=['float32', 'bfloat16'])
    parser.add_argument('--evaluate-every', type=int, default=200, help='training steps between validations')
    parser.add_argument('--time-steps', type=int, default=3, help='steps of the published model to time; 0 for none')
    parser.add_argument('--time-batch', type=int, default=8, help='molecules in such a step')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/conformer_gap'), help='folder of all results')
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[PackedTargets, PackedTargets, PackedTargets]:
    """Molecules to train on, to choose the weights by, and for test."""
    root = str(args.root or args.out / 'data')
    common = dict(num_conformers=args.num_conformers, hydrogens=not args.heavy, num_workers=args.num_workers)
    if args.data == 'molecule3d':
        return tuple(PackedTargets(*Molecule3D(root, split, limit=args.limit, **common).columns())
                     for split in ('train', 'val', 'test'))
    if args.data == 'pcqm4mv2':  # the validation set, which has no geometries, is what is reported
        known, test = (PackedTargets(*PCQM4Mv2Conformers(root, split, limit=args.limit, **common).columns())
                       for split in ('train', 'val'))
    else:
        sample = [data for data in QM9Sample() if bool(data.gap.isfinite())][:args.limit or 2000]
        gap = torch.cat([data.gap for data in sample])
        known = PackedTargets(*ConformerDataset(root, sample, gap, **common).columns())
        test = None
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    tenth = max(len(known) // 10, 1) if test is None else min(max(len(known) // 50, 1), 10_000)
    rest, val = order[tenth:], known.subset(order[:tenth])
    if test is None:
        rest, test = rest[tenth:], known.subset(rest[:tenth])
    return known.subset(rest), val, test


def configuration(preset: str, args: argparse.Namespace, train: PackedTargets) -> GeoMFormerConfig:
    if preset == 'small':
        return GeoMFormerConfig.preset('pcqm4mv2', elements=tuple(train.atom_columns['z'].unique().tolist()), **SMALL)
    return GeoMFormerConfig.preset(preset)


def fit_config(args: argparse.Namespace) -> FitConfig:
    steps, warmup, lr = PUBLISHED.get(args.preset, (1_000_000, 200, 1e-3))
    published = args.preset in PUBLISHED
    minutes = args.max_minutes if published or args.max_minutes or args.num_steps else 10.0
    num_steps = args.num_steps or steps
    warmup = min(warmup, num_steps // 10) if args.warmup_steps is None else args.warmup_steps
    return FitConfig(num_steps=num_steps, warmup_steps=warmup, max_minutes=minutes,
                     lr=args.lr or lr, batch_size=args.batch_size or (1024 if published else 32),
                     betas=(0.9, 0.999), weight_decay=0.0, max_norm=5.0, accumulate=args.accumulate,
                     precision=args.precision, evaluate_every=args.evaluate_every, seed=args.seed)


def train_model(train: PackedTargets, val: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on the validation molecules."""
    torch.manual_seed(args.seed)
    config = fit_config(args)
    loss = ConformerGapLoss(GeoMFormer(configuration(args.preset, args, train)), train)
    print(f'{loss.model} learns from {len(train):,} molecules of {args.data}')

    def measure(loss: ConformerGapLoss) -> dict[str, float]:
        figures = relaxation_errors(predict_from_conformers(loss.model, val), val)
        return {f'val_{name}': value for name, value in figures.items()}
    keep = KeepBest(args.out / 'model', measure, 'val_gap_mae', gap_unit='eV',
                    training=dict(data=args.data, molecules=len(train), conformers=args.num_conformers,
                                  hydrogens=not args.heavy, minutes=config.max_minutes, seed=args.seed, lr=config.lr,
                                  batch_size=config.batch_size))
    last = fit(loss, train, args.out / 'training', config, augment=RelaxationInput(), evaluate=keep, progress=True)
    keep(last)  # the end of the training
    return GeoMFormer.from_pretrained(args.out / 'model')


def report(model: AtomPredictor, train: PackedTargets, test: PackedTargets, data: str) -> None:
    mean = train.molecule_columns['gap'].mean()
    gap = test.molecule_columns['gap']
    most = int(test.molecule_columns['num_conformers'].max())
    one = relaxation_errors(predict_from_conformers(model, test, max_conformers=1), test)
    rows = {'mean gap, RDKit geometry': dict(gap_mae=float((gap - mean).abs().mean()), rmsd=one.get('conformer_rmsd')),
            f'{type(model).__name__}, 1 conformer': one,
            f'{type(model).__name__}, up to {most}': relaxation_errors(predict_from_conformers(model, test), test)}
    print(f'mean errors on {len(test):,} test molecules of {data}')
    print(f'{"":26} {"gap / eV":>10} {"RMSD / Å":>10}')
    for name, row in rows.items():
        distance = '-' if row.get('rmsd') is None else f'{row["rmsd"]:.4f}'
        print(f'{name:26} {row["gap_mae"]:10.4f} {distance:>10}')


def time_published(train: PackedTargets, args: argparse.Namespace) -> None:
    """A training step of the published model with few molecules, and what the published run would take."""
    preset = args.data if args.data in PUBLISHED else 'pcqm4mv2'
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    loss = ConformerGapLoss(GeoMFormer(configuration(preset, args, train)), train).to(device)
    optimizer = torch.optim.AdamW(loss.parameters(), lr=1e-5, fused=True)
    clock, unit = (time.process_time, 'processor ') if device == 'cpu' else (time.perf_counter, '')
    index = torch.arange(min(args.time_batch, len(train)))
    seconds = []
    for _ in range(args.time_steps + 1):
        start = clock()
        batch = RelaxationInput()(train.batch(index).to(device))
        with torch.autocast(device, torch.bfloat16, args.precision == 'bfloat16'):
            terms = loss(batch)
        terms.total.backward()
        optimizer.step()
        optimizer.zero_grad()
        if device == 'cuda':
            torch.cuda.synchronize()
        seconds.append(clock() - start)
    step, atoms = statistics.median(seconds[1:]), int(batch.ptr[-1])  # the first step warms up
    molecules = PUBLISHED[preset][0] * 1024
    size = sum(p.numel() for p in loss.model.parameters()) / 1e6
    print(f"a step of '{preset}' ({size:.0f} M parameters, {args.precision}) on {len(index)} molecules, {atoms} atoms: "
          f'{step:.2f} {unit}seconds, {min(seconds[1:]):.2f} to {max(seconds[1:]):.2f} in {args.time_steps} steps '
          f'({device}, {torch.get_num_threads()} threads)')
    print(f'the published run, {PUBLISHED[preset][0]:,} steps of 1,024 molecules, would take '
          f'{molecules / len(index) * step / 86400:,.1f} {unit}days here')


def main() -> None:
    args = parse_arguments()
    train, val, test = load(args)
    model = train_model(train, val, args) if args.weights is None else AtomPredictor.from_pretrained(args.weights)
    report(model, train, test, args.data)
    if args.time_steps:
        time_published(train, args)


if __name__ == '__main__':
    main()
