r"""Relaxed geometries and HOMO-LUMO gaps from RDKit conformers, learned as PCQM4Mv2 is.

    python examples/conformer_gap.py                            2,000 molecules of QM9 that come with the package
    python examples/conformer_gap.py --data pcqm4mv2 --root data/pcqm4mv2 --num-workers 16 --preset pcqm4mv2
    python examples/conformer_gap.py --data molecule3d --root data/molecule3d --limit 50000
    python examples/conformer_gap.py --weights outputs/conformer_gap/model      the test errors of an earlier run

In training the model sees geometries near the relaxed one, on the way to it, and conformers; in the test conformers
alone, and predictions from several of them are averaged. Run it again to go on where it was stopped.
"""
import argparse
from pathlib import Path

import torch

from torch_geometric_inertial import GeoMFormer, GeoMFormerConfig
from torch_geometric_inertial.datasets import ConformerDataset, Molecule3D, PCQM4Mv2Conformers, QM9Sample
from torch_geometric_inertial.models import AtomPredictor
from torch_geometric_inertial.training import ConformerGapLoss, FitConfig, PackedTargets, RelaxationInput, fit_best
from torch_geometric_inertial.training.conformer_gap import predict_from_conformers, relaxation_errors

SMALL = dict(channels=64, heads=4, num_layers=4, num_kernels=32)
FIT = FitConfig(num_steps=1_000_000, max_minutes=10.0, batch_size=32, lr=1e-3, betas=(0.9, 0.999), weight_decay=0.0,
                max_norm=5.0)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--data', default='qm9', choices=['qm9', 'pcqm4mv2', 'molecule3d'])
    parser.add_argument('--root', type=Path, help='folder of the data; OUT/data if left out')
    parser.add_argument('--limit', type=int, help='molecules of each split to use (of QM9, 2,000 in all)')
    parser.add_argument('--num-conformers', type=int, default=4, help='conformers per molecule (published: 8)')
    parser.add_argument('--heavy', action='store_true', help='leave out hydrogens, as is usual for PCQM4Mv2')
    parser.add_argument('--num-workers', type=int, default=0, help='processes that make conformers')
    parser.add_argument('--preset', default='small', choices=['small', 'pcqm4mv2', 'molecule3d'], help='size, schedule')
    parser.add_argument('--weights', type=Path, help='folder of a model: skip training')
    parser.add_argument('--fit', nargs='+', default=[], metavar='FIELD=VALUE', help='changes to the FitConfig')
    parser.add_argument('--out', type=Path, default=Path('outputs/conformer_gap'), help='folder of all results')
    return parser.parse_args()


def load(args: argparse.Namespace) -> tuple[PackedTargets, PackedTargets, PackedTargets]:
    """Molecules to train on, to choose the weights by, and for test."""
    root = str(args.root or args.out / 'data')
    common = dict(num_conformers=args.num_conformers, hydrogens=not args.heavy, num_workers=args.num_workers)

    def packed(kind: type, split: str) -> PackedTargets:
        return PackedTargets(*kind(root, split, limit=args.limit, **common).columns())
    if args.data == 'molecule3d':
        return tuple(packed(Molecule3D, split) for split in ('train', 'val', 'test'))
    if args.data == 'pcqm4mv2':  # the validation set, which has no geometries, is what is reported
        known, test = (packed(PCQM4Mv2Conformers, split) for split in ('train', 'val'))
        val, train = known.split(min(max(len(known) // 50, 1), 10_000))
        return train, val, test
    sample = [data for data in QM9Sample() if bool(data.gap.isfinite())][:args.limit or 2000]
    gap = torch.cat([data.gap for data in sample])
    known = PackedTargets(*ConformerDataset(root, sample, gap, **common).columns())
    val, test, train = known.split(*2 * [max(len(known) // 10, 1)])
    return train, val, test


def train_model(train: PackedTargets, val: PackedTargets, args: argparse.Namespace) -> AtomPredictor:
    """The model that did best on the validation molecules."""
    if args.preset == 'small':
        elements = tuple(train.atom_columns['z'].unique().tolist())
        fit, model = FIT, GeoMFormerConfig.preset('pcqm4mv2', elements=elements, **SMALL)
    else:
        fit, model = FitConfig.preset(args.preset), GeoMFormerConfig.preset(args.preset)
    fit = fit.with_words(['evaluate_every=200', *args.fit])
    torch.manual_seed(fit.seed)
    loss = ConformerGapLoss(GeoMFormer(model), train)
    print(f'{loss.model} learns from {len(train):,} molecules of {args.data}')
    return fit_best(loss, train, args.out, fit, augment=RelaxationInput(), figure='gap_mae', progress=True,
                    measure=lambda averaged: relaxation_errors(predict_from_conformers(averaged, val), val),
                    gap_unit='eV', training=dict(data=args.data, conformers=args.num_conformers,
                                                 hydrogens=not args.heavy))


def main() -> None:
    args = parse_arguments()
    train, val, test = load(args)
    model = train_model(train, val, args) if args.weights is None else AtomPredictor.from_pretrained(args.weights)
    one, several = (relaxation_errors(predict_from_conformers(model, test, k), test) for k in (1, None))
    constant = float((test.molecule_columns['gap'] - train.molecule_columns['gap'].mean()).abs().mean())
    name, most = type(model).__name__, int(test.molecule_columns['num_conformers'].max())
    rows = (('mean gap, RDKit geometry', constant, one.get('conformer_rmsd')),
            (f'{name}, 1 conformer', one['gap_mae'], one.get('rmsd')),
            (f'{name}, up to {most}', several['gap_mae'], several.get('rmsd')))
    print(f'mean errors on {len(test):,} test molecules of {args.data}\n{"":26} {"gap / eV":>10} {"RMSD / Å":>10}')
    for name, error, rmsd in rows:
        print(f'{name:26} {error:10.4f} {"-" if rmsd is None else f"{rmsd:.4f}":>10}')


if __name__ == '__main__':
    main()
