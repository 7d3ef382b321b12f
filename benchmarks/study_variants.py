r"""Which form of InertialAR learns fastest: the same molecules, steps and size, one thing changed at a time.

    python benchmarks/study_variants.py --results benchmarks/results/variants.jsonl

Trains each variant of the `tiny` model on 9,000 molecules of the embedded sample (EDM training split of QM9), then
writes 500 molecules and judges them with the EDM rules. `held-out` is the loss on the other 1,000 molecules; losses of
different coordinate targets or orders do not compare, the shares do.
"""
import argparse
import json
import platform
import tempfile
import time
from pathlib import Path

import torch
from torch_geometric.data import Batch
from torch_geometric.transforms import Compose

from torch_geometric_inertial import CanonicalOrder, InertialAR, InertialARConfig, InertialFrame
from torch_geometric_inertial.datasets import QM9Sample
from torch_geometric_inertial.metrics import evaluate
from torch_geometric_inertial.training import FitConfig, PackedMolecules, RandomPose, fit

PLAIN = dict(valence_channels=0, pair_channels=0)
ABSOLUTE = dict(coordinate_target='absolute', sigma_data=1.4)
VARIANTS: dict[str, dict] = {
    # where the next atom goes, relative to what
    'plain local': dict(config=PLAIN),
    'plain absolute': dict(config=ABSOLUTE | PLAIN),
    # what the network is told besides
    'local': {},
    'local, no pair field': dict(config=dict(pair_channels=0)),
    'local, no valence account': dict(config=dict(valence_channels=0)),
    'local, no environment': dict(config=dict(environment_channels=0)),
    'local, order heavy_first': dict(config=dict(order='heavy_first')),
    'local, noise N(-1.2, 1.2)': dict(config=dict(noise_mean=-1.2, noise_std=1.2)),
    # what a canonical frame needs
    'plain local, clean context': dict(config=PLAIN | dict(context_noise=0.0)),
    'plain local, context noise 0.05': dict(config=PLAIN | dict(context_noise=0.05)),
    'plain local, rotations 10°': dict(config=PLAIN, augment=RandomPose(10.0)),
    'plain local, random pose': dict(config=PLAIN, augment=RandomPose(180.0, 1.0)),
    'plain absolute, random pose': dict(config=ABSOLUTE | PLAIN, augment=RandomPose(180.0, 1.0)),
    'plain local, dropout 0.1': dict(config=PLAIN | dict(dropout=0.1)),
    'plain local, weight decay 0.1': dict(config=PLAIN, fit=dict(weight_decay=0.1)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--variants', nargs='*', default=list(VARIANTS), choices=list(VARIANTS), metavar='NAME')
    parser.add_argument('--steps', type=int, default=400)
    parser.add_argument('--num-samples', type=int, default=500)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--results', type=Path)
    args = parser.parse_args()
    print(f'{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}; '
          f'{args.steps} steps of 128 molecules, {args.num_samples} samples')
    print(f'{"variant":28} {"atom st.":>8} {"mol st.":>8} {"valid":>8} {"conn.":>8} {"held-out":>9} {"minutes":>8}')
    for name in args.variants:
        row = run(name, **VARIANTS[name], args=args)
        print(f'{name:28} {row["atom_stability"]:8.1%} {row["molecule_stability"]:8.1%} {row["validity"]:8.1%} '
              f'{row["connected"]:8.1%} {row["held_out"]:9.3f} {row["minutes"]:8.1f}', flush=True)
        if args.results is not None:
            with open(args.results, 'a') as file:
                file.write(json.dumps(row) + '\n')


def run(name: str, args: argparse.Namespace, config: dict | None = None, augment: RandomPose | None = None,
        **kwargs) -> dict:
    c = InertialARConfig.preset('tiny', elements=(1, 6, 7, 8), **(config or {}))
    canonical = Compose([InertialFrame(), CanonicalOrder(c.order)])
    batch = canonical(Batch.from_data_list(list(QM9Sample())))
    data = PackedMolecules(batch.z, batch.pos, batch.ptr)
    train, held_out = data.batch(torch.arange(9000)), data.batch(torch.arange(9000, 10_000))
    torch.manual_seed(args.seed)
    model = InertialAR(c).fit_landmarks(train.pos)
    model.network.head.network.compile(dynamic=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        bfloat16 = torch.cuda.is_available() or torch.cpu._is_avx512_bf16_supported()
        how = FitConfig(num_steps=args.steps, batch_size=128, warmup_steps=100, ema_decay=0.98, seed=args.seed,
                        precision='bfloat16' if bfloat16 else 'float32', **kwargs.get('fit', {}))
        model = fit(model, PackedMolecules(train.z, train.pos, train.ptr), folder, how, augment=augment)
    minutes = (time.monotonic() - start) / 60
    device = next(model.parameters()).device
    with torch.no_grad():
        loss = model(held_out.to(device), torch.Generator(device).manual_seed(0))
    report = evaluate(model.generate(args.num_samples, seed=args.seed), 'edm-qm9')
    shares = ('atom_stability', 'molecule_stability', 'validity', 'connected', 'valid_and_connected',
              'valid_and_unique')
    return dict(variant=name, steps=args.steps, seed=args.seed, minutes=round(minutes, 2), held_out=float(loss.total),
                type=float(loss.type), parent=float(loss.parent), coord=float(loss.coord),
                **{key: getattr(report, key) for key in shares})


if __name__ == '__main__':
    main()
