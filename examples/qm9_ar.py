r"""InertialAR on QM9, from molecules to molecules.

    python examples/qm9_ar.py                   learn from 10,000 real molecules for 3 minutes, then write 64 new ones
    python examples/qm9_ar.py --weights qm9     write molecules with the weights that come with the package
    python examples/qm9_ar.py --root data/qm9 --preset small --minutes 90 --out runs/qm9
                                                learn from the EDM training split of PyG's own QM9 (downloaded); run it
                                                again to go on where it was stopped
"""
import argparse
from pathlib import Path

import torch
from torch_geometric.data import Batch
from torch_geometric.datasets import QM9
from torch_geometric.transforms import Compose

from torch_geometric_inertial import CanonicalOrder, InertialAR, InertialARConfig, InertialFrame
from torch_geometric_inertial.chem import draw_grid, write_sdf
from torch_geometric_inertial.datasets import QM9Sample, qm9_split
from torch_geometric_inertial.metrics import comparison, evaluate, reference_smiles
from torch_geometric_inertial.training import FitConfig, PackedMolecules, fit


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9 data set; the embedded sample if left out")
    parser.add_argument('--weights', help="'qm9' or a folder: skip training and use these weights")
    parser.add_argument('--preset', default='tiny', help='size of the model: tiny, small, base, paper')
    parser.add_argument('--minutes', type=float, default=3.0, help='time to train')
    parser.add_argument('--batch-size', type=int, default=64, help='molecules a training step')
    parser.add_argument('--lr', type=float, default=2e-3, help='peak learning rate')
    parser.add_argument('--num-samples', type=int, default=64, help='molecules to write')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--out', type=Path, default=Path('outputs/qm9_ar'), help='folder of all results')
    return parser.parse_args()


def load_molecules(root: Path | None) -> Batch:
    """Training molecules in canonical frame and order, all in one batch."""
    canonical = Compose([InertialFrame(), CanonicalOrder(order='smiles')])
    if root is None:
        return canonical(Batch.from_data_list(list(QM9Sample())))
    dataset = QM9(str(root))
    return canonical(Batch.from_data_list(list(dataset[qm9_split(dataset.idx + 1, 'train')])))


def train(molecules: Batch, args: argparse.Namespace) -> InertialAR:
    data = PackedMolecules(molecules.z, molecules.pos, molecules.ptr)
    torch.manual_seed(args.seed)
    elements = tuple(data.z.unique().tolist())
    model = InertialAR(InertialARConfig.preset(args.preset, elements=elements)).fit_landmarks(data.pos)
    print(f'{model} learns from {len(data):,} molecules for {args.minutes:g} minutes')
    bfloat16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
    config = FitConfig(num_steps=1_000_000, max_minutes=args.minutes, batch_size=args.batch_size, lr=args.lr,
                       precision='bfloat16' if bfloat16 else 'float32', seed=args.seed)
    model = fit(model, data, args.out / 'training', config, progress=True)
    model.save_pretrained(args.out / 'model')
    return model


def main() -> None:
    args = parse_arguments()
    molecules = load_molecules(args.root)
    if args.weights is None:
        model = train(molecules, args)
    else:
        model = InertialAR.from_pretrained(args.weights)
        print(f"{model} from '{args.weights}'")

    generated = model.generate(args.num_samples, seed=args.seed, progress=True)

    known = molecules.to_data_list()[:5000]
    print(comparison({
        'generated': evaluate(generated, reference=reference_smiles(known)),
        'training data': evaluate(known),
    }))
    write_sdf(generated, args.out / 'molecules.sdf', on_error='skip')
    draw_grid(generated[:16], args.out / 'molecules.png')
    print(f"wrote {args.out / 'molecules.sdf'} and {args.out / 'molecules.png'}")


if __name__ == '__main__':
    main()
