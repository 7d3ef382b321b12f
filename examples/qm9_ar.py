r"""InertialAR on QM9, from molecules to molecules.

    python examples/qm9_ar.py                   learn from 9,000 real molecules for 3 minutes, then write 64 new ones
    python examples/qm9_ar.py --weights qm9     write molecules with the weights that come with the package
    python examples/qm9_ar.py --root data/qm9 --max-minutes 90 --out runs/qm9
                                                learn from the EDM training split of PyG's own QM9 (downloaded); run it
                                                again to go on where it was stopped
"""
import argparse
from pathlib import Path

import torch
from torch_geometric.data import Batch

from torch_geometric_inertial import InertialAR, InertialARConfig
from torch_geometric_inertial.chem import draw_grid, with_bonds, write_sdf
from torch_geometric_inertial.datasets import load_qm9
from torch_geometric_inertial.metrics import comparison, evaluate
from torch_geometric_inertial.nn import atom_types_of
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit
from torch_geometric_inertial.transforms import canonical


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--weights', help="'qm9' or a folder: skip training and use these weights")
    parser.add_argument('--preset', default='small', help='size of the model: tiny, small, base')
    parser.add_argument('--max-minutes', type=float, default=3.0, help='time to train')
    parser.add_argument('--batch-size', type=int, default=128, help='molecules per training step')
    parser.add_argument('--lr', type=float, default=2e-3, help='peak learning rate')
    parser.add_argument('--num-samples', type=int, default=64, help='molecules to write')
    parser.add_argument('--place-temperature', type=float, default=0.5, help='of the places; 1 is what was learned')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/qm9_ar'), help='folder of all results')
    return parser.parse_args()


def load_molecules(split: str, root: Path | None) -> PackedMolecules:
    """Molecules in canonical frame and order, with their bonds."""
    molecules = load_qm9(split, root)
    if root is not None:  # the data set has neither charges nor orders as numbers
        molecules = [with_bonds(data) for data in molecules]
    batch = canonical('heavy_first')(Batch.from_data_list(list(molecules)))  # all at once is fast
    return PackedMolecules.from_dataset(batch.to_data_list())


def train(molecules: PackedMolecules, held_out: PackedMolecules, args: argparse.Namespace) -> InertialAR:
    torch.manual_seed(args.seed)
    types = atom_types_of(molecules.batch(torch.arange(len(molecules))))
    model = InertialAR(InertialARConfig.preset(args.preset, atom_types=types))
    print(f'{model} learns from {len(molecules):,} molecules for {args.max_minutes:g} minutes')

    def judge(averaged: InertialAR, step: int) -> dict[str, float]:
        """The held-out loss and the stability of new molecules, for the log."""
        device = next(averaged.parameters()).device
        batch = held_out.batch(torch.arange(min(len(held_out), 500))).to(device)
        with torch.no_grad():
            loss = averaged(batch, torch.Generator(device).manual_seed(0))
        report = evaluate(averaged.generate(250, seed=1), 'edm-qm9')
        return dict(held_out=float(loss.total), molecule_stability=report.molecule_stability, validity=report.validity)

    bfloat16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    config = FitConfig(num_steps=1_000_000, max_minutes=args.max_minutes, batch_size=args.batch_size, lr=args.lr,
                       betas=(0.9, 0.98), precision='bfloat16' if bfloat16 else 'float32', evaluate_every=1000,
                       seed=args.seed)
    model = fit(model, molecules, args.out / 'training', config, augment=RandomPose(180.0), evaluate=judge,
                progress=True)
    model.save_pretrained(args.out / 'model')
    return model


def main() -> None:
    args = parse_arguments()
    molecules = load_molecules('train', args.root)
    if args.weights is None:
        model = train(molecules, load_molecules('valid', args.root), args)
    else:
        model = InertialAR.from_pretrained(args.weights)
        print(f"{model} from '{args.weights}'")

    generated = model.generate(args.num_samples, seed=args.seed, place_temperature=args.place_temperature,
                               progress=True)
    known = molecules.subset(torch.arange(min(len(molecules), 5000))).to_data_list()
    print(f'places at temperature {args.place_temperature:g}')
    print(comparison({'generated': evaluate(generated, 'edm-qm9', reference=known),
                      'training data': evaluate(known, 'edm-qm9')}))
    write_sdf(generated, args.out / 'molecules.sdf', on_error='skip')
    draw_grid(generated[:16], args.out / 'molecules.png')
    print(f"wrote {args.out / 'molecules.sdf'} and {args.out / 'molecules.png'} (green: right by its own bonds)")


if __name__ == '__main__':
    main()
