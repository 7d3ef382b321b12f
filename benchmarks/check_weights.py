r"""Judges the molecules that a model writes by the EDM rules, beside real QM9 and the published figures.

    python benchmarks/check_weights.py --weights qm9 --num-samples 10000

Hydrogens and completion are judged by benchmarks/check_hydrogens.py and check_completion.py, likelihoods by
examples/likelihood.py.
"""
import argparse
import platform
import time
from pathlib import Path

import torch
from torch_geometric.datasets import QM9

from torch_geometric_inertial import AtomAutoregressor
from torch_geometric_inertial.datasets import QM9Sample, gdb_ids, qm9_split
from torch_geometric_inertial.metrics import comparison, evaluate, frame_drift
from torch_geometric_inertial.nn.diffusion_head import NUM_STEPS

PUBLISHED = """published, 10,000 samples of models trained on all of QM9, atom / molecule stability (%):
  EDM 98.7 / 82.0   GeoLDM 98.9 / 89.4   Quetzal 98.3 / 87.6   InertialAR (448 M parameters) 99.3 / 94.7
  all of QM9, fluorine included 99.0 / 95.2"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--weights', default='qm9')
    parser.add_argument('--num-samples', type=int, default=10_000)
    parser.add_argument('--num-steps', type=int, default=NUM_STEPS, help='evaluations of the head an atom')
    parser.add_argument('--temperature', type=float, default=1.0)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--root', type=Path, help="folder of PyG's QM9: novelty against its EDM training split; "
                        'against the embedded 10,000 molecules if left out')
    args = parser.parse_args()
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model = AtomAutoregressor.from_pretrained(args.weights, device=device)
    start = time.monotonic()
    molecules = model.generate(args.num_samples, num_steps=args.num_steps, temperature=args.temperature,
                               seed=args.seed, progress=True)
    seconds = time.monotonic() - start
    known = list(QM9Sample())
    if args.root is not None:
        dataset = QM9(str(args.root))
        known = list(dataset[qm9_split(gdb_ids(dataset.name), 'train')])
    real = evaluate(known, 'edm-qm9')
    report = evaluate(molecules, 'edm-qm9', reference=real)
    drift = frame_drift(molecules)
    drift = drift[drift.isfinite()]
    print(f'{model}: {args.num_samples} molecules, seed {args.seed}, {args.num_steps} evaluations an atom, temperature '
          f'{args.temperature:g}, {seconds:.0f} s on {platform.machine()} {device}, {torch.get_num_threads()} threads, '
          f'torch {torch.__version__}')
    print(f"{args.num_samples / seconds:.2f} molecules/s (wall clock), {sum(p.numel() for p in model.parameters()):,} "
          f"parameters, order '{model.config.order}', elements {model.elements}")
    print(report)
    print(comparison({'generated': report, 'QM9': real}))
    print(PUBLISHED)
    print(f'frame drift: median {drift.median():.3f} Å, mean {drift.mean():.3f} Å, '
          f'above 0.5 Å in {(drift > 0.5).float().mean():.1%} of the molecules')


if __name__ == '__main__':
    main()
